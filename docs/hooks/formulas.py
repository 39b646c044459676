"""Formulas as MathML, made while the site is built: browsers need no script."""

import html
import re

from latex2mathml import converter

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
# Names of functions stand close to what follows, unless that is a parenthesis.
_FUNCTION = re.compile(r'<(mi|mo)([^>]*)>(log|det|exp)</\1>(?!<mo[^>]*>&#x00028;)')
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def on_page_content(content: str, **_) -> str:
  """Replaces what `pymdownx.arithmatex` marked."""
  content = _INLINE.sub(lambda m: _mathml(m[1], 'inline'), content)
  content = _BLOCK.sub(lambda m: f'<p>{_mathml(m[1], "block")}</p>', content)
  if 'class="arithmatex"' in content:
    raise ValueError('Expected every formula to become MathML; some did not.')
  return content


def _mathml(latex, display):
  mathml = converter.convert(html.unescape(latex).strip(), display=display)
  return _FUNCTION.sub(r'<mi>\3</mi><mspace width="0.17em"/>', mathml)
