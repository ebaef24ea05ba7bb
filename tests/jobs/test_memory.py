"""How long the largest example is, before anything is loaded."""

from heedful.jobs.fit.memory import longest_tree
from heedful.types import Message, Preference, Prompt


def said(size: int) -> tuple[Message, ...]:
    return (Message(role="assistant", content="x" * size),)


def test_the_sides_of_a_prompt_count_together_and_each_text_up_to_its_limit() -> None:
    prompt = Prompt.of("y" * 276)  # about 100 tokens
    pairs = [
        Preference(prompt=prompt, chosen=said(276), rejected=said(576)),  # 100 and 200
        Preference(prompt=prompt, chosen=said(276), rejected=said(30_000)),
        Preference(prompt=Prompt.of("z"), chosen=said(3), rejected=said(6)),
    ]
    assert longest_tree(pairs, max_tokens=512) == 100 + 100 + 200 + 412
    assert longest_tree([prompt], max_tokens=512) == 512
