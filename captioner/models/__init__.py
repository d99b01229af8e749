"""What several subjects share: encoder, recurrent cells, search, tokenizer, runtime, saved models."""

import sys

# OpenVINO, when it is imported, reports that to Google Analytics, from a process that it forks. This package works
# offline and says so: with the reporter out of reach, OpenVINO does without.
sys.modules.setdefault("openvino_telemetry", None)
