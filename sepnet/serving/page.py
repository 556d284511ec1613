"""The page: its form on the left, the result on the right, under one another on a phone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import gradio as gr

from sepnet.serving.examples import Example
from sepnet.serving.handlers import Handlers

FONTS = ["system-ui", "sans-serif"]  # no font is fetched from anywhere
MONOSPACE = ["ui-monospace", "monospace"]
EMPTY = '<div class="empty">The mixture and its sources will be here: to see, to play, and to download.</div>'
SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"]
TO_RESULT = (
    "() => innerWidth < 720 && document.querySelector('[data-mixer]').scrollIntoView({behavior: 'smooth'})"
)


def theme() -> gr.themes.Base:
    """Light or dark as the reader's system is."""
    base = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONOSPACE)
    return base.set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")


def build(handlers: Handlers, examples: Sequence[Example]) -> gr.Blocks:
    """The page with all its events."""
    models, limits = handlers.service.models, handlers.service.limits
    first = next(iter(models))
    page: gr.Blocks
    with gr.Blocks(title="sepnet: separate sounds", analytics_enabled=False) as page:
        gr.Markdown(
            "# sepnet\nOne recording in, its sources out. "
            f"At most {limits.seconds:g} s and {limits.upload_mb:g} MB.",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                mixture = _sound("Recording", "mixture")
                if examples:
                    gr.HTML("Or take an example:", elem_id="or")
                with gr.Row(elem_id="examples"):
                    buttons = [gr.Button(example.title, size="sm", min_width=90) for example in examples]
                model = gr.Dropdown(
                    [each.name for each in models],
                    value=first.name,
                    label="Method",
                    elem_id="model",
                    filterable=False,
                )
                about = gr.Markdown(first.about, elem_id="about")
                n_sources = gr.Slider(
                    1, limits.sources, value=2, step=1, label="Number of sources", elem_id="n_sources",
                    visible="n_sources" in first.separator.info.needs,
                )  # fmt: skip
                query = _sound(
                    "An example of the sound to take out",
                    "query",
                    visible="queries" in first.separator.info.needs,
                )
                with gr.Accordion("More: several microphones, scores", open=False, elem_id="more"):
                    channels = gr.Radio(
                        [("average them", "mean"), ("keep all", "all")],
                        value="mean",
                        label="Several microphones or channels",
                        info="Keep all for methods that compare microphones, such as fastica.",
                        elem_id="channels",
                    )
                    references = gr.File(
                        label="The true sources, to score by: a file for each, as long as the recording",
                        file_count="multiple",
                        file_types=SUFFIXES,
                        elem_id="references",
                        height=120,
                    )
                go = gr.Button("Separate", variant="primary", elem_id="go")
            with gr.Column(scale=3, min_width=320):
                result = gr.HTML(EMPTY, elem_id="result")
        hidden: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "concurrency_limit": None,
        }
        model.change(functools.partial(_fields, handlers), model, [about, n_sources, query], **hidden)
        for button, example in zip(buttons, examples, strict=True):
            fill = functools.partial(_fill, handlers, example)
            button.click(fill, None, [mixture, model, n_sources, query, references], **hidden)
        asked = [mixture, model, n_sources, query, references, channels]
        shown = go.click(
            handlers.show,
            asked,
            result,
            api_visibility="private",
            concurrency_limit=None,
            show_progress_on=result,
        )
        shown.success(None, js=TO_RESULT)
        page.unload(handlers.left)
        _endpoint(handlers, first.name)
    page.queue(max_size=limits.waiting + limits.jobs, api_open=False, default_concurrency_limit=None)
    return page


def _sound(label: str, name: str, *, visible: bool = True) -> gr.Audio:
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label=label,
        elem_id=name,
        visible=visible,
        buttons=[],
        editable=False,
        waveform_options=gr.WaveformOptions(sample_rate=48000),
    )


def _fields(handlers: Handlers, name: str) -> tuple[str, Any, Any]:
    """What the form asks for follows from what the separator needs."""
    model = handlers.service.models[name]
    needs = model.separator.info.needs
    return model.about, gr.update(visible="n_sources" in needs), gr.update(visible="queries" in needs)


def _fill(handlers: Handlers, example: Example) -> tuple[Any, ...]:
    """An example in the fields, and the first of its methods that is served."""
    served = [each.name for each in handlers.service.models]
    model = next((name for name in example.models if name in served), served[0])
    query = None if example.query is None else str(example.query)
    references = [str(path) for path in example.references]
    return str(example.mixture), model, example.n_sources, query, references


def _endpoint(handlers: Handlers, default: str) -> None:
    """``/separate`` for Gradio's client, apart from the page: it returns files, and removes its uploads."""
    fields = [
        gr.Audio(label="mixture", visible=False, type="filepath"),
        gr.Textbox(value=default, label="model", visible=False),
        gr.Number(value=None, label="n_sources", visible=False),
        gr.Audio(value=None, label="query", visible=False, type="filepath"),
        gr.File(value=None, label="references", visible=False, type="filepath", file_count="multiple"),
        gr.Textbox(value="mean", label="channels", visible=False),
    ]
    outputs = [
        gr.File(label="sources", visible=False, file_count="multiple"),
        gr.JSON(label="manifest", visible=False),
    ]
    button = gr.Button(visible=False)
    button.click(handlers.separate, fields, outputs, api_name="separate", concurrency_limit=None)
