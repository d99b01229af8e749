"""The model card of a trained translator."""

from __future__ import annotations

from collections.abc import Mapping


def translator_card(name: str, config: Mapping, metadata: Mapping) -> str:
    """Model card of a translator.

    Args:
        name: Name of the model folder.
        config: ``encoder`` and ``decoder`` settings.
        metadata: As `captioner.training.translation.run.train_translation` keeps it.

    Returns:
        Markdown.
    """
    encoder, decoder, scores = config["encoder"], config["decoder"], metadata["scores"]
    lines = [
        f"# {name}",
        "",
        f"Translates English sentences, above all captions, to {', '.join(metadata['languages'])}.",
        "",
        "## Model",
        f"- Encoder: {encoder['cell']} of {encoder['units']} units in each direction.",
        f"- Decoder: {decoder['cell']} of {decoder['units']} units, {decoder['heads']} attention heads over the words, "
        f"{decoder['vocabulary_size']} subwords of all languages.",
        "",
        "## Data",
        f"{metadata['train_sentences']:,} sentences of `{metadata['data']}` in every language; epoch "
        f"{metadata['epoch']}, {metadata['seconds'] / 3600:.1f} hours, the best on the validation sentences.",
        "",
        "## Scores on the validation sentences",
        "| language | BLEU | BLEU, lower case | chrF |",
        "| --- | --- | --- | --- |",
    ]
    for language in metadata["languages"]:
        shown = (f"{scores[f'{language} {name}']:.1f}" for name in ("bleu", "bleu lower", "chrf"))
        lines.append(f"| {language} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
