"""`python -m tests.documentation`: write what is generated in docs/."""

from tests.documentation.pages import generated

for path, text in generated().items():
    path.write_text(text, encoding="utf-8")
