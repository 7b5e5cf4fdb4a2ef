"""Templates of pages -> HTML that needs nothing else: no network, no other files, no scripts."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from rldarts_tf.errors import RunError


def render(package: str, template: str, **values: Any) -> str:
    """Fills in a template of a package, which may extend `base.html.j2` of this one.

    Args:
      package: where the template is.
      template: its file.
      **values: what it shows, beside `made`, the time.

    Raises:
      RunError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise RunError("no report: install jinja2 (pip install rldarts_tf[report])") from error
    packages = dict.fromkeys((package, __package__ or ""))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return environment.get_template(template).render(made=made, **values)


def embedded(content: bytes, kind: str = "image/svg+xml") -> str:
    """Returns a picture or a video as a source, from where it cannot reach the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
