"""The model card of a trained captioner: what it is, how it came about and what it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_STAGES = {
    "decoder": "decoder on the frozen encoder, cross-entropy",
    "finetune": "encoder and decoder together, cross-entropy",
    "self_critical": "self-critical sequence training of the decoder",
    "self_critical_finetune": "self-critical sequence training of encoder and decoder",
}


def captioner_card(name: str, config: Mapping, metadata: Mapping) -> str:
    """Model card of a captioner.

    Args:
        name: Name of the model folder.
        config: ``encoder`` and ``decoder`` settings.
        metadata: ``data``, ``train_photos``, ``stages`` (one record a stage with ``stage``, ``epoch``, ``seconds`` and
            ``scores``) and ``options``, as `captioner.training.captions.run.CaptionTraining` keeps them.

    Returns:
        Markdown.
    """
    encoder, decoder = config["encoder"], config["decoder"]
    stages = metadata.get("stages", [])
    lines = [
        f"# {name}",
        "",
        "Writes captions for photographs.",
        "",
        "## Model",
        f"- Encoder: {encoder['name']} at {encoder['image_size']} px, from ImageNet weights.",
        f"- Decoder: {decoder['cell']} of {decoder['units']} units, {decoder['heads']} attention heads over the grid, "
        f"{decoder['vocabulary_size'] - 4} words.",
        "",
        "## Data",
        f"{metadata['train_photos']:,} training photos of `{metadata['data']}` with their captions; the best epoch of "
        "every stage was chosen by CIDEr-D on its dev photos.",
        "",
        "## Training",
        f"`captioner train captions --data {metadata['data']} --output DIR`",
        "",
        *_table(stages),
    ]
    return "\n".join(lines) + "\n"


def _table(stages: Sequence[Mapping]) -> list[str]:
    rows = [
        "| stage | epochs | minutes | dev CIDEr-D | BLEU-4 | words | distinct captions |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in stages:
        scores = record["scores"]
        rows.append(
            f"| {_STAGES.get(record['stage'], record['stage'])} | {record['epoch']} | {record['seconds'] / 60:.0f} | "
            f"{scores['cider_d']:.1f} | {scores['bleu_4']:.1f} | {scores['words']:.1f} | {scores['distinct']} |"
        )
    return rows
