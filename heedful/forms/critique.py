"""What is good or bad about a completion, in words."""

from collections.abc import Mapping, Sequence

from heedful.forms.base import Form, check_payload, check_text, payload_schema, text_schema
from heedful.types import JSON


class Critique(Form):
    """Payload ``{"critique": "Right, but the second half repeats the first."}``.

    It compares nothing and shows no better answer, so it gives no training rows by itself.
    """

    name = "critique"
    question = "What is good or bad about this answer?"
    num_completions = (1, 1)

    def schema(self, completion_ids: Sequence[str]) -> JSON:  # noqa: ARG002 - a form's signature
        """JSON Schema of a payload."""
        return payload_schema({"critique": text_schema()}, required=["critique"])

    def examples(
        self,
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> list[dict[str, JSON]]:
        """A critique."""
        return [{"critique": "Right, but the second half repeats the first."}]

    def validate(
        self,
        payload: Mapping[str, JSON],
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> None:
        """Raise ``DataError`` unless there is a text."""
        check_payload(self.name, payload, ("critique",), required=["critique"])
        check_text(self.name, "critique", payload["critique"])

    def without_texts(self, payload: Mapping[str, JSON]) -> None:  # noqa: ARG002 - as above
        """Nothing: a critique is a text."""
        return
