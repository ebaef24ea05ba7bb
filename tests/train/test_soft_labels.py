"""A pair with a probability is as good as the votes it stands for, under every loss."""

import math
from dataclasses import replace

import pytest
import torch

from heedful.config import RewardLoss, check
from heedful.data.collate import Said, Tree, collate
from heedful.data.examples import check_feedback
from heedful.data.reading import compared, learned, plan_reading
from heedful.data.testing import preferences
from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.tensors import Outputs
from heedful.train.objectives import PREFERENCE_LOSSES, direct_preference, feedback_reward
from heedful.types import Annotation, Completion, Feedback, Message, Prompt, Task

CPU = torch.device("cpu")
LOSSES = [
    {"pairs": "bradley_terry"},
    {"pairs": "bradley_terry", "params": {"label_smoothing": 0.1}},
    {"pairs": "constant_error"},
    {"pairs": "unbiased"},
    {"annotators": "reliability"},
]


def tree(*said: tuple[int, int, float, float], annotator: int = 0) -> Tree:
    """Two answers and statements (better, worse, probability, weight); one more of another."""
    return Tree(
        id="a",
        prompt=(1,),
        responses=((2,), (3,)),
        said=(
            *(
                Said(
                    scale="order",
                    responses=(better, worse),
                    values=(0.0, 1.0),
                    probability=probability,
                    weight=weight,
                    annotator=annotator,
                )
                for better, worse, probability, weight in said
            ),
            Said(scale="order", responses=(0, 1), values=(0.0, 1.0), annotator=1),
        ),
    )


def loss_of(loss: RewardLoss, given: Tree, scores: torch.Tensor) -> torch.Tensor:
    read = learned(given, plan_reading(loss, [given]))
    assert read is not None
    links = {"annotators/mean": torch.tensor(1.0), "annotators/apart": torch.tensor([0.5, -0.5])}
    return feedback_reward(loss)(Outputs(scores=scores, links=links), collate([read], CPU))[0]


@pytest.mark.parametrize("settings", LOSSES)
def test_a_probability_is_the_votes_of_so_many_people(settings: dict[str, object]) -> None:
    loss, scores = check(RewardLoss, settings), torch.tensor([0.8, -0.4])
    votes = tree((0, 1, 1.0, 0.7), (1, 0, 1.0, 0.3))
    soft = loss_of(loss, tree((0, 1, 0.7, 1.0)), scores)
    torch.testing.assert_close(soft, loss_of(loss, votes, scores))
    assert soft != loss_of(loss, tree((0, 1, 1.0, 1.0)), scores)


def best_lead(loss: RewardLoss, given: Tree) -> float:
    scores = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([scores], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss_of(loss, given, scores)
        value.backward()
        return value

    search.step(closure)
    return float((scores[0] - scores[1]).detach())


def alone(*said: tuple[int, int, float, float]) -> Tree:
    given = tree(*said)
    return Tree(id="a", prompt=(1,), responses=given.responses, said=given.said[:-1])


def test_seven_of_ten_votes_and_their_soft_label_have_the_same_best_lead() -> None:
    expected = math.log(0.7 / 0.3)
    votes = alone(*[(0, 1, 1.0, 1.0)] * 7, *[(1, 0, 1.0, 1.0)] * 3)
    assert best_lead(RewardLoss(), votes) == pytest.approx(expected, abs=1e-4)
    soft = alone((0, 1, 0.7, 1.0))
    assert best_lead(RewardLoss(), soft) == pytest.approx(expected, abs=1e-4)


def test_smoothing_from_the_settings_stops_at_its_lead() -> None:
    loss = check(RewardLoss, {"params": {"label_smoothing": 0.1}})
    assert best_lead(loss, alone((0, 1, 1.0, 1.0))) == pytest.approx(math.log(9), abs=1e-4)


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_direct_preference_takes_the_mean_over_both_ways_round(name: str) -> None:
    objective = direct_preference(name, {})
    outputs = Outputs(logprobs=torch.tensor([[-1.0], [-2.5]]))

    def total(*said: tuple[int, int, float, float]) -> float:
        batch = collate([compared(alone(*said))], CPU)
        batch = replace(batch, ref_logprobs=torch.tensor([[-1.2], [-1.9]]))
        return objective(outputs, batch)[0].item()

    votes = total((0, 1, 1.0, 0.7), (1, 0, 1.0, 0.3))
    assert total((0, 1, 0.7, 1.0)) == pytest.approx(votes, rel=1e-6)


def test_an_answer_with_a_probability_reaches_both_kinds_of_rows() -> None:
    form, prompt = FORMS["pairwise"], Prompt.of("tea?")
    shown = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=text),),
            model="import:m",
        )
        for text in ("yes", "no")
    ]
    ids = tuple(one.id for one in shown)
    task = Task(form="pairwise", prompt=prompt, completion_ids=ids)
    said = Annotation(
        task_id=task.id,
        annotator="zoe",
        source="human",
        payload={"preferred": ids[1], "probability": 0.7},
        shown_order=ids,
    )
    completions = {one.id: one for one in shown}
    (row,) = form.to_feedback(task, completions, said)
    (pair,) = form.to_preferences(task, completions, said)
    assert row.probability == pair.probability == pair.as_feedback().probability == 0.7
    assert pair.chosen == shown[1].messages


@pytest.mark.parametrize(
    "payload",
    [
        {"probability": 0.5},
        {"probability": 1.2},
        {"probability": True},
        {"probability": float("nan")},
        {"probability": 0.7, "strength": 2},
        {"preferred": None, "probability": 0.7},
    ],
)
def test_a_probability_that_means_nothing_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(DataError, match="probability"):
        FORMS["pairwise"].validate({"preferred": "a", **payload}, ["a", "b"])  # type: ignore[arg-type]


def test_only_a_pair_has_a_probability() -> None:
    row = preferences()[0].as_feedback()
    with pytest.raises(DataError, match="only an order of two without a strength"):
        check_feedback(
            Feedback(
                prompt=row.prompt,
                responses=row.responses,
                scale="rating",
                values=(1, 2),
                probability=0.7,
            )
        )
