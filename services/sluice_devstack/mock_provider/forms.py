"""The wire forms that the mock speaks; a new one is a module with its form, and a line here."""

from collections.abc import Mapping
from typing import Any, Final

from sluice_devstack.mock_provider.anthropic_form import AnthropicForm
from sluice_devstack.mock_provider.azure_form import AzureForm
from sluice_devstack.mock_provider.compatible_form import DIALECTS, CompatibleForm
from sluice_devstack.mock_provider.form import Asked, Form
from sluice_devstack.mock_provider.openai_form import OpenAIForm
from sluice_devstack.mock_provider.responses_form import ResponsesForm

FORMS: Final[tuple[Form, ...]] = (
    OpenAIForm(),
    AnthropicForm(),
    AzureForm(),
    ResponsesForm(),
    *(CompatibleForm(name, dialect) for name, dialect in DIALECTS.items()),
)


def form_of(path: str, body: Mapping[str, Any]) -> tuple[Form, Asked] | None:
    """The form that a path belongs to, and the request as it reads it."""
    for form in FORMS:
        asked = form.asked(path, body)
        if asked is not None:
            return form, asked
    return None
