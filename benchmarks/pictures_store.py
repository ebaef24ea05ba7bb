"""A store for the pictures of the pages: PandaLM's pairs, and questions for every form."""

import csv
import gzip
import io
import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from pandalm import JUDGEMENTS, csv_lines, prompt_of
from pandalm import PEOPLE as PEOPLE_OF_PANDALM

HERE = Path(__file__).parent
PEOPLE = {"ben": "reviewer", "cleo": "annotator", "dana": "annotator", "emil": "annotator"}
TITLES = {
    "support": ("Support answers", "pairwise"),
    "best-of-four": ("Best of four", "ranking"),
    "three-criteria": ("Helpful, honest, harmless", "rating"),
    "what-is-wrong": ("What is wrong with it?", "flags"),
    "write-it-better": ("Write it better", "demonstration"),
    "what-to-change": ("What should change?", "critique"),
    "sums": ("Sums, step by step", "steps"),
}
NUM_SHOWN = {"pairwise": 2, "ranking": 4, "rating": 2, "flags": 1}
FIRST = {"ranking": 4, "rating": 2, "flags": 3, "demonstration": 1, "critique": 5}
MODELS = ("mellum-7b", "juniper-3b", "wren-1b", "wren-tiny")
ANSWER_SECONDS = 300  # in which a worker writes an answer
REMARKS = (
    "It names dates and who has to act.",
    "Right, and short enough to read at the counter.",
    "",
)


class Person:
    """Somebody who is signed in and uses the JSON API."""

    def __init__(self, address: str, link: str) -> None:
        self.http = httpx.Client(base_url=address, follow_redirects=True, timeout=120)
        self.http.post(link).raise_for_status()
        page = self.http.get("/me").text
        self.http.headers["x-csrf-token"] = page.split('name="csrf" content="')[1].split('"')[0]

    def call(self, method: str, path: str, **body: Any) -> Any:
        """The answer of a call; its message when it is refused."""
        answer = self.http.request(method, f"/api{path}", json=body or None)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.text}")
        return answer.json()

    def tell_about(self, **told: str) -> None:
        """Say something about oneself."""
        fields = {f"about {name}": value for name, value in told.items()}
        csrf = self.http.headers["x-csrf-token"]
        self.http.post("/me/about", data=fields | {"csrf": csrf}).raise_for_status()


def import_pairs(store: str, data: Path, folder: Path) -> None:
    """PandaLM's 700 pairs, parted by prompt: one part to fit on, one to measure on."""
    with gzip.open(data, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    parts = {
        "pandalm-train": [one for one in rows if not is_held_out(one)],
        "pandalm-dev": [one for one in rows if is_held_out(one)],
    }
    for name, part in parts.items():
        file = folder / f"{name}.csv"
        file.write_text(csv_lines(part))
        heedful("import", "csv", file, "--store", store)


def is_held_out(row: Mapping[str, Any]) -> bool:
    """One prompt in four is measured on."""
    return zlib.crc32(row["instruction"].encode()) % 4 == 0


def train(store: str, folder: Path) -> None:
    """A reward on features of the answers, and two short PPO runs of the small model against it."""
    reward, dev = folder / "runs" / "features", ("--data", "pandalm-dev", "--store", store)
    fitted = ("--data", "pandalm-train", "--store", store)
    heedful("fit", "reward", "--backbone", "features", "--out", reward, *fitted)
    heedful("evaluate", "reward", reward, "--out", folder / "runs" / "card", *dev)
    for name, seed in (("policy", 0), ("policy-2", 1)):
        policy = folder / "runs" / name
        heedful("fit", "ppo", "--reward", reward, "--seed", seed, "--out", policy, *fitted,
                "rollouts.num_rollouts=8", "rollouts.prompts_per_rollout=4",
                "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=32")  # fmt: skip
        heedful("evaluate", "--model", policy, "--reward", reward, "--out",
                folder / "runs" / f"evaluation-{name}", *dev, "num_prompts=24", "best_of=2",
                "max_new_tokens=32")  # fmt: skip


def heedful(*arguments: object) -> None:
    """A command, to its end."""
    command = [sys.executable, "-m", "heedful", *map(str, arguments)]
    print(*command[2:], flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fill(owner: Person, address: str, data: Path) -> None:
    """PandaLM as a project, and projects of every form, of which people have answered half."""
    content = json.loads((HERE / "pictures.json").read_text())
    people = {name: invited(owner, address, name, role) for name, role in PEOPLE.items()}
    for project, (title, form) in TITLES.items():
        asked = content["steps"] if form == "steps" else content["questions"]
        first = FIRST.get(form, 0)
        asked = [*asked[first:], *asked[:first]]
        make_project(owner, project, title, form, asked, content["guidelines"])
    import_project(owner, data)
    levels = ("expert", "lay")
    for number, person in enumerate([owner, *people.values()]):
        person.tell_about(
            language=("English", "German", "Czech")[number % 3], level=levels[number % 2]
        )
    rng = random.Random(0)
    ranks = {
        text: place for one in content["questions"] for place, text in enumerate(one["answers"])
    }
    for name, person in people.items():
        for project, (_, form) in TITLES.items():
            answer_some(person, project, form, ranks, rng, num=6 if name in ("ben", "cleo") else 3)
    owner.call("POST", "/keys", name="nightly judge", scopes=["enter", "label"], source="model")
    people["ben"].call("POST", "/keys", name="export", scopes=["view"])
    owner.http.get("/data/pandalm/download?format=trl").raise_for_status()
    owner.call("POST", "/chats/endpoints", name="local-server", model="mellum-7b",
               url="http://127.0.0.1:8000/v1", key="")  # fmt: skip
    talk(owner, content["questions"])
    ask_for_fits(owner)


def import_project(owner: Person, data: Path) -> None:
    """All of PandaLM's pairs as the answers of a project."""
    owner.call("POST", "/projects", dataset="pandalm", title="PandaLM, three people a pair",
               form="pairwise", overlap=3)  # fmt: skip
    with gzip.open(data, "rt") as lines:
        rows = [row for line in lines for row in answers_of(json.loads(line))]
    with io.StringIO() as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue()
    path = "/api/data/pandalm/import?format=csv"
    owner.http.post(path, content=content.encode()).raise_for_status()


def answers_of(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What each of the three people said of a pair, with the models that wrote it."""
    models = row["cmp_key"].split("_")
    for person in PEOPLE_OF_PANDALM:
        yield {
            "prompt": prompt_of(row),
            "answer_1": row["response1"],
            "answer_2": row["response2"],
            "model_1": models[0],
            "model_2": models[1],
            "judgement": JUDGEMENTS[row[person]],
            "annotator": person,
        }


def talk(owner: Person, questions: Sequence[Mapping[str, Any]]) -> None:
    """Two conversations with the newest policy; the newer one has two drafts to choose from."""
    targets = owner.call("GET", "/chats/targets")
    local = [one["id"] for one in targets if not one["is_remote"]]
    if not local:
        return
    for number, question in ((5, "rice"), (4, "parcel")):
        made = owner.call("POST", "/chats", targets=[local[0]], max_new_tokens=90)["id"]
        owner.call("POST", f"/chats/{made}/turns", text=questions[number - 1]["prompt"])
        wait_for_answers(owner, made)
        if question == "rice":
            owner.call("POST", f"/chats/{made}/turns/0/rate", rated="up", text="Clear.")
        else:
            owner.call("POST", f"/chats/{made}/regenerate")
            wait_for_answers(owner, made)


def wait_for_answers(owner: Person, chat: str) -> None:
    """Until nothing of the newest turn is being written, or the worker has had its time."""
    for _ in range(2 * ANSWER_SECONDS):
        drafts = owner.call("GET", f"/chats/{chat}")["turns"][-1]["drafts"]
        if all(one["state"] in ("done", "failed") for one in drafts):
            return
        time.sleep(0.5)


def ask_for_fits(owner: Person) -> None:
    """A fit that is done soon, one that is at work while the pictures are taken, one that waits."""
    for name, model, epochs in (
        ("tiny", "test", 1),
        ("longer", "test", 30),
        ("reward", "smollm2", 1),
    ):
        spec = {"name": name, "data": "pandalm", "model": model, "epochs": epochs}
        owner.call("POST", "/jobs", kind="fit_reward", spec=spec, key=name)


def invited(owner: Person, address: str, name: str, role: str) -> Person:
    """A new person, who has come by their link."""
    return Person(address, owner.call("POST", "/people", name=name, role=role)["link"])


def make_project(
    owner: Person,
    project: str,
    title: str,
    form: str,
    asked: Sequence[Mapping[str, Any]],
    text: str,
) -> None:
    """A project with its guidelines and tasks, of which two have known answers."""
    more: dict[str, Any] = {}
    if form == "pairwise":
        more = {"attributes": ["language", "level: expert | lay"], "masked": ["Juniper"],
                "qualify_with": 2, "qualify_at": 0.5}  # fmt: skip
    owner.call("POST", "/projects", dataset=project, title=title, form=form, overlap=4,
               lease_seconds=7200, **more)  # fmt: skip
    owner.call("PUT", f"/projects/{project}/guidelines", text=text)
    tasks = []
    for number, one in enumerate(asked):
        answers = [one["answer"]] if form == "steps" else one["answers"][: NUM_SHOWN.get(form, 1)]
        if form == "pairwise":
            answers = [one["answers"][0], one["answers"][2]]
        if form in ("demonstration", "critique"):
            answers = [one["answers"][2]]
        tasks.append({
            "prompt": [{"role": "user", "content": one["prompt"]}],
            "candidates": [
                {"origin": model, "messages": [{"role": "assistant", "content": text}]}
                for model, text in zip(MODELS, answers, strict=False)
            ],
            "priority": float(-number),
            **({"known": {"preferred": "0"}} if form == "pairwise" and number > 3 else {}),
        })  # fmt: skip
    owner.call("POST", f"/projects/{project}/tasks", tasks=tasks)
    owner.call("POST", f"/projects/{project}/lease", count=1)  # what the pictures show


def answer_some(
    person: Person, project: str, form: str, ranks: Mapping[str, int], rng: random.Random, num: int
) -> None:
    """Answer the next tasks of a project, mostly as the answers deserve."""
    for number in range(num):
        items = person.call("POST", f"/projects/{project}/lease", count=1)["items"]
        if not items:
            return
        (item,) = items
        texts = [one["messages"][0]["content"] for one in item["candidates"]]
        places = [ranks.get(text, 1) + rng.random() * 1.6 for text in texts]
        payload = judgement(form, places, texts, rng)
        if comment := rng.choice(REMARKS):
            payload["comment"] = comment
        person.call("POST", f"/projects/{project}/answers", task=item["task"], payload=payload,
                    key=f"{person.http.headers['x-csrf-token']}-{project}-{number}",
                    seconds=round(rng.uniform(9, 70), 1))  # fmt: skip


def judgement(
    form: str, places: Sequence[float], texts: Sequence[str], rng: random.Random
) -> dict[str, Any]:
    """What somebody says who finds the answers as bad as ``places`` says."""
    order = sorted(range(len(places)), key=lambda one: places[one])
    if form == "pairwise":
        return {"preferred": str(order[0]), "strength": rng.choice((1, 1, 2, 3))}
    if form == "ranking":
        return {"ranks": [[str(one)] for one in order]}
    if form == "rating":
        marks = {str(at): max(1, 5 - round(place)) for at, place in enumerate(places)}
        return {"ratings": {at: {"helpful": mark, "honest": min(5, mark + 1), "harmless": 5}
                            for at, mark in marks.items()}}  # fmt: skip
    if form == "flags":
        return {"flags": {"0": {"off_topic": {"severity": 1}}} if places[0] > 1 else {}}
    if form == "demonstration":
        return {"accepted": "0" if rng.random() < 0.5 else None}
    if form == "critique":
        return {"critique": "It says what to do but not by when; name a date and who has to act."}
    return {"labels": [1] * len(texts[0].split("\n\n"))}
