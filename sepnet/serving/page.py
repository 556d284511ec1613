"""The page: a form on the left and the result on the right; on a phone, one below the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import gradio as gr

from sepnet.data.audio import SUFFIXES
from sepnet.serving.examples import Example
from sepnet.serving.handlers import Handlers
from sepnet.serving.models import summarise

FONTS = ["system-ui", "sans-serif"]  # of the reader's system: none is downloaded
MONOSPACE = ["ui-monospace", "monospace"]
PLACEHOLDER = '<div class="empty">The separated sources will appear here, to view, play and download.</div>'
SCROLL_TO_RESULT = (
    "() => innerWidth < 720 && document.querySelector('[data-mixer]').scrollIntoView({behavior: 'smooth'})"
)


def theme() -> gr.themes.Base:
    """Return the theme of the page, which is light or dark like the reader's system."""
    base = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONOSPACE)
    return base.set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")


def build(handlers: Handlers, examples: Sequence[Example]) -> gr.Blocks:
    """Build the page with its events.

    Args:
        handlers: The functions behind its buttons.
        examples: The examples to offer; none are offered if it is empty.

    Returns:
        The page.
    """
    models, limits = handlers.service.models, handlers.service.limits
    info = models[models.default].info
    page: gr.Blocks
    with gr.Blocks(title="sepnet: separate sounds", analytics_enabled=False) as page:
        gr.Markdown(
            "# sepnet\nSeparate a recording into its sources. "
            f"Recordings can be up to {limits.seconds:g} s long and {limits.upload_mb:g} MB in size.",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                mixture = _sound("Recording", "mixture")
                if examples:
                    gr.HTML("Or choose an example:", elem_id="or")
                with gr.Row(elem_id="examples"):
                    buttons = [gr.Button(example.title, size="sm", min_width=90) for example in examples]
                model = gr.Dropdown(
                    list(models),
                    value=models.default,
                    label="Method",
                    elem_id="model",
                    filterable=False,
                )
                about = gr.Markdown(summarise(info), elem_id="about")
                n_sources = gr.Slider(
                    1, limits.sources, value=2, step=1, label="Number of sources", elem_id="n_sources",
                    visible="n_sources" in info.needs,
                )  # fmt: skip
                query = _sound(
                    "Example of the sound to extract",
                    "query",
                    visible="queries" in info.needs,
                )
                with gr.Accordion("More options: microphones, scores", open=False, elem_id="more"):
                    channels, references = _options()
                separate = gr.Button("Separate", variant="primary", elem_id="go")
            with gr.Column(scale=3, min_width=320):
                result = gr.HTML(PLACEHOLDER, elem_id="result")
        private: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "concurrency_limit": None,
        }
        model.change(functools.partial(_update_form, handlers), model, [about, n_sources, query], **private)
        for button, example in zip(buttons, examples, strict=True):
            fill = functools.partial(_fill_form, handlers, example)
            button.click(fill, None, [mixture, model, n_sources, query, references], **private)
        inputs = [mixture, model, n_sources, query, references, channels]
        separated = separate.click(
            handlers.show,
            inputs,
            result,
            api_visibility="private",
            concurrency_limit=None,
            show_progress_on=result,
        )
        separated.success(None, js=SCROLL_TO_RESULT)
        page.unload(handlers.close_page)
        _add_endpoint(models.default, handlers)
    page.queue(max_size=limits.waiting + limits.jobs, api_open=False, default_concurrency_limit=None)
    return page


def _options() -> tuple[gr.Radio, gr.File]:
    """The inputs that few recordings need."""
    channels = gr.Radio(
        [("Average them", "mean"), ("Use all", "all")],
        value="mean",
        label="Several channels",
        info="Use all channels for methods that compare microphones, such as fastica.",
        elem_id="channels",
    )
    references = gr.File(
        label="True sources, for scores: one file each, as long as the recording",
        file_count="multiple",
        file_types=sorted(SUFFIXES),
        elem_id="references",
        height=120,
    )
    return channels, references


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


def _update_form(handlers: Handlers, name: str) -> tuple[str, Any, Any]:
    """Show the inputs that the chosen model needs."""
    info = handlers.service.models[name].info
    needs_number, needs_query = "n_sources" in info.needs, "queries" in info.needs
    return summarise(info), gr.update(visible=needs_number), gr.update(visible=needs_query)


def _fill_form(handlers: Handlers, example: Example) -> tuple[Any, ...]:
    """Fill the form with an example, and choose the first of its models that is served."""
    models = handlers.service.models
    model = next((name for name in example.models if name in set(models)), models.default)
    query = None if example.query is None else str(example.query)
    references = [str(path) for path in example.references]
    return str(example.mixture), model, example.n_sources, query, references


def _add_endpoint(default_model: str, handlers: Handlers) -> None:
    """Add ``/separate`` for Gradio's client. It returns files, and removes its uploads at once."""
    fields = [
        gr.Audio(label="mixture", visible=False, type="filepath"),
        gr.Textbox(value=default_model, label="model", visible=False),
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
