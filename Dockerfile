# The page and runs over folders, on a CPU, without root:
#   docker build -t captioner . && docker run --rm -p 7860:7860 captioner
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" captioner video films/ --output results/
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "captioner[app] @ file://$(echo /wheels/captioner-*.whl)" \
    && rm -r /wheels \
    && useradd --uid 1000 captioner
USER 1000
# Whoever the container runs as may write there.
ENV HOME=/tmp GRADIO_ANALYTICS_ENABLED=False
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["captioner"]
CMD ["serve", "--host", "0.0.0.0"]
