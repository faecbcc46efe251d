"""The judge on a small trained pair of models: worst case, resume, settings, protocols."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.budgets import Ball, keywords_within
from grfd.data import Split
from grfd.errors import UserError
from grfd.evaluation import judge, protocols, records
from grfd.evaluation.attacker import VOTES, Expected, predictions
from grfd.evaluation.case import Case, budgets_for, tasks_of
from grfd.evaluation.checks import run_checks
from grfd.evaluation.judge import attack_all
from grfd.evaluation.request import Request

BUDGETS = {
    "fgsm": {"eps": 0.1},
    "pgd": {"eps": 0.1, "step_size": 0.04, "steps": 5},
    "aa": {"eps": 0.1, "steps": 5, "targets": 2, "n_queries": 40},
}
ATTACKS = tuple(BUDGETS)


class Shifted(nn.Module):
    """A defense with a residual: a classifier of x − ½·mean(x)."""

    def __init__(self, target: nn.Module, noise: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.noise = noise
        self.stochastic = noise > 0

    def residual(self, images: Tensor) -> Tensor:
        return images - 0.5 * images.mean((1, 2, 3), keepdim=True) + self.noise * torch.randn_like(images)

    def deterministic(self) -> "Shifted":
        return Shifted(self.target)

    def forward(self, images: Tensor) -> Tensor:
        return self.target(self.residual(images))


def net(seed: int, images: Tensor, labels: Tensor) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 6, 6, generator=generator)
    return Split(images, (images.flatten(1)[:, :18].mean(1) * 9 - 3).long().clamp(0, 2))


@pytest.fixture
def case(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(judge, "IMAGES_AT_ONCE", 16)
    monkeypatch.setitem(protocols.EXTRA, "pgd", (("pgd", {"step_size": 0.1}), ("square", {"n_queries": 20})))
    first, second = (net(seed, split.images, split.labels) for seed in (0, 1))
    models = {"standard": first, "second-standard": second, "grfd": Shifted(second)}
    return Case(tmp_path, models, split, BUDGETS, 0, torch.device("cpu"))


ALL = ["transfer", "whitebox", "adaptive", "residual"]


def test_every_cell_has_a_record_of_every_example(case: Case) -> None:
    attack_all(case, Request(ALL, ATTACKS, 40))
    found = records.read_records(case.folder)
    assert set(found) == {(c.model, c.protocol, c.attack) for c in tasks_of(case, Request(ALL, ATTACKS))}
    assert len(found) == 3 * (2 + 2 + 2 + 1)
    for (_, protocol, attack), record in found.items():
        assert record.columns["index"].tolist() == list(range(40))
        assert record.columns["label"].tolist() == case.split.labels.tolist()
        assert (record.columns["norm"] <= BUDGETS[attack]["eps"] + 1e-6).all()
        assert (record.columns["queries"] > 0).all(), (protocol, attack)


def test_adaptive_is_at_most_whitebox_and_transfer(case: Case) -> None:
    attack_all(case, Request(ALL, ATTACKS, 40))
    found = records.read_records(case.folder)
    for (model, protocol, attack), record in found.items():
        if protocol == "adaptive":
            for other in ("whitebox", "transfer"):
                if (model, other, attack) in found:
                    assert not (record.robust & ~found[model, other, attack].robust).any()


class Rounded(nn.Module):
    """Rounds, so that its own gradient is 0; an attacker may differentiate what stands behind the rounding."""

    def __init__(self, target: nn.Module) -> None:
        super().__init__()
        self.target = target

    def stand_ins(self) -> dict[str, nn.Module]:
        return {"behind the rounding": self.target}

    def forward(self, images: Tensor) -> Tensor:
        return self.target((images * 20).round() / 20)


def test_adaptive_tries_every_stand_in(case: Case) -> None:
    rounded = replace(case, models={"standard": case.models["standard"], "rounded": Rounded(case.models["standard"])})
    attack_all(rounded, Request(["whitebox", "adaptive"], ["fgsm"], 40))
    found = records.read_records(case.folder)
    left = {protocol: found["rounded", protocol, "fgsm"].robust.mean() for protocol in ("whitebox", "transfer")}
    assert found["rounded", "whitebox", "fgsm"].robust.mean() > 0.9
    assert found["rounded", "adaptive", "fgsm"].robust.mean() <= left["transfer"] < 0.7


class Rejecting(nn.Module):
    """Rejects what is brighter than any of the images, whatever it is."""

    rejection = 3

    def __init__(self, target: nn.Module, brightest: float) -> None:
        super().__init__()
        self.target = target
        self.brightest = brightest

    def forward(self, images: Tensor) -> Tensor:
        logits = self.target(images)
        rejection = logits.amax(1) + 50 * (images.mean((1, 2, 3)) - self.brightest)
        return torch.cat([logits, rejection[:, None]], 1)


def test_a_rejected_image_is_wrong_before_an_attack_and_held_after_it(case: Case) -> None:
    brightness = case.split.images.mean((1, 2, 3))
    detector = Rejecting(case.models["standard"], brightness.median().item())
    attack_all(
        replace(case, models={"standard": case.models["standard"], "detector": detector}), Request(ALL[:3], ["pgd"], 40)
    )
    found = records.read_records(case.folder)
    rejected = (brightness > brightness.median()).numpy()
    record = found["detector", "whitebox", "pgd"]
    assert (record.columns["clean_prediction"][rejected] == 3).all() and not record.robust[rejected].any()
    assert (record.columns["adversarial_prediction"] < 3).all() and "accepted" in record.settings["rule"]
    assert 0 < record.robust[~rejected].sum() < (~rejected).sum()
    assert not (found["detector", "adaptive", "pgd"].robust & ~record.robust).any()


def test_worst_case_is_at_most_each_attack(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ATTACKS, 40))
    mine = [record for key, record in records.read_records(case.folder).items() if key[0] == "grfd"]
    worst = records.worst_case(mine)
    assert len(mine) == 3
    assert all((worst <= record.robust).all() for record in mine)
    assert worst.mean() < np.mean([record.clean.mean() for record in mine])


def _answers(*held: bool) -> records.Record:
    """A record in which these images withstand an attack."""
    count = len(held)
    right = np.zeros(count, dtype=np.int64)
    changed = {"adversarial_prediction": (~np.array(held)).astype(np.int64)}
    columns = {"index": np.arange(count), "label": right, "clean_prediction": right, **changed}
    columns |= {"norm": np.zeros(count), "queries": np.ones(count)}
    return records.Record(columns, {})


def test_the_worst_case_of_a_line_is_at_most_each_attack_though_they_met_unequal_counts() -> None:
    """The first images are the easier ones; the expensive attack met only these."""
    cheap, expensive = _answers(True, True, True, False, False, False), _answers(True, True, False)
    assert records.lowest_worst_case([cheap, expensive]).tolist() == cheap.robust.tolist()
    assert records.lowest_worst_case([cheap, _answers(False, True, False)]).tolist() == [False, True, False]
    assert records.lowest_worst_case([cheap, _answers(True, False)]).tolist() == cheap.robust.tolist(), "more images"
    stream = np.random.default_rng(0)
    for _ in range(50):
        made = [_answers(*stream.random(count) < 0.7) for count in stream.integers(1, 30, size=4)]
        lowest = records.lowest_worst_case(made)
        assert all(lowest.mean() <= each.robust.mean() for each in made)
        assert len(lowest) in {len(each) for each in made}


def test_a_page_reads_each_record_once_and_cannot_change_it(tmp_path: Path) -> None:
    path = tmp_path / "pgd.npz"
    with records.each_read_once():
        assert records.read_record(path) is None
        records.write_record(path, replace(_answers(True, False), settings={"attack": {"name": "pgd"}}))
        first = records.read_record(path)
        assert first is not None and records.read_record(path) is first
        with pytest.raises(ValueError, match="read-only"):
            first.columns["adversarial_prediction"][0] = 3
    again = records.read_record(path)
    assert again is not None and again is not first and again.columns["label"].flags.writeable


def test_transfer_is_made_on_the_standard_model(case: Case) -> None:
    """A model that is the standard model falls under transfer as under whitebox, but for other random starts."""
    twin = replace(case, models=case.models | {"grfd": case.models["standard"]})
    attack_all(twin, Request(["transfer", "whitebox"], ["pgd"], 40))
    found = records.read_records(case.folder)
    transferred, seeing = (
        found["grfd", "transfer", "pgd"].robust.sum(),
        found["standard", "whitebox", "pgd"].robust.sum(),
    )
    assert 0 < seeing < 35 and abs(int(transferred) - int(seeing)) <= 3


def test_transferred_examples_take_all_steps(case: Case) -> None:
    """Whitebox examples leave at their first success; those for other models are moved as long as the attack lasts."""
    attack_all(case, Request(["transfer", "whitebox"], ["pgd"], 40))
    found = records.read_records(case.folder)
    transfer, whitebox = found["grfd", "transfer", "pgd"], found["standard", "whitebox", "pgd"]
    assert (transfer.columns["queries"] == 7).all()
    assert (whitebox.columns["queries"] < 7).all()
    assert transfer.settings["transfer"]["active_set"] is False and "transfer" not in whitebox.settings


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_stopped_after_any_batch_it_gives_the_same_bits(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    other = replace(case, folder=tmp_path / "other")
    attack_all(other, Request(ALL, ATTACKS, 40))
    append: Callable = records.append_record
    calls = []

    def stopping(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > stop:
            raise KeyboardInterrupt
        append(*arguments)

    here = replace(case, folder=tmp_path / "here")
    monkeypatch.setattr(records, "append_record", stopping)
    with pytest.raises(KeyboardInterrupt):
        attack_all(here, Request(ALL, ATTACKS, 40))
    monkeypatch.setattr(records, "append_record", append)
    attack_all(here, Request(ALL, ATTACKS, 40))
    assert _files(here.folder) == _files(other.folder)


def test_more_examples_add_to_the_record(case: Case, tmp_path: Path) -> None:
    attack_all(case, Request(ALL, ["pgd"], 16))
    before = records.read_records(case.folder)
    attack_all(case, Request(ALL, ["pgd"], 40))
    after = records.read_records(case.folder)
    for key, record in before.items():
        assert len(record) == 16 and len(after[key]) == 40
        for name in records.COLUMNS:
            assert after[key].columns[name][:16].tolist() == record.columns[name].tolist()


def test_a_record_of_other_settings_is_made_anew(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["pgd"], 40))
    stronger = replace(case, budgets=BUDGETS | {"pgd": {"eps": 0.5, "step_size": 0.1, "steps": 5}})
    attack_all(stronger, Request(["whitebox"], ["pgd"], 40))
    record = records.read_records(case.folder)["grfd", "whitebox", "pgd"]
    assert record.settings["attack"]["eps"] == 0.5 and len(record) == 40
    assert record.columns["norm"].max() > 0.1


def test_a_damaged_record_is_named(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["fgsm"], 40))
    path = records.path_of(case.folder, "grfd", "whitebox", "fgsm")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"fgsm\.npz is damaged"):
        attack_all(case, Request(["whitebox"], ["fgsm"], 40))


@pytest.mark.parametrize(("wanted", "attacks"), [(["whitbox"], ["pgd"]), (["whitebox"], ["pdg"])])
def test_unknown_names_are_refused(case: Case, wanted: list[str], attacks: list[str]) -> None:
    with pytest.raises(UserError, match=r"unknown (protocol 'whitbox'|attack 'pdg')"):
        attack_all(case, Request(wanted, attacks, 40))


class Careless(nn.Module):
    """A model whose answer is wrong for a fifth of the images, others in each pass."""

    stochastic = True

    def __init__(self, model: nn.Module, **votes: int) -> None:
        super().__init__()
        self.model = model
        for name, value in votes.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits.roll(1, 1).where(torch.rand(len(images), 1) < 0.2, logits)


@pytest.mark.parametrize(("own", "votes"), [({}, VOTES), ({"votes": 1}, 1)])
def test_a_random_defense_is_judged_by_votes_and_the_record_says_so(own: dict, votes: int, case: Case) -> None:
    """Of eleven votes, each wrong for a fifth of the images, the majority is wrong for 1 %. At ε = 0, x′ is x."""
    standard = case.models["standard"]
    models = {"standard": standard, "grfd": Careless(standard, **own)}
    attack_all(replace(case, models=models, budgets={"fgsm": {"eps": 0.0}}), Request(["whitebox"], ["fgsm"], 40))
    record = records.read_records(case.folder)["grfd", "whitebox", "fgsm"]
    assert record.settings["votes"] == votes and "majority" in record.settings["rule"]
    expected = predictions(standard, case.split.images).numpy()
    for column in ("clean_prediction", "adversarial_prediction"):
        wrong = (record.columns[column] != expected).mean()
        assert wrong <= 0.05 if votes == VOTES else 0.05 < wrong < 0.5, column


def test_votes_settle_a_random_answer() -> None:
    class Coin(nn.Module):
        stochastic = True

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([torch.full((len(images),), 0.8), torch.rand(len(images))], 1)

    torch.manual_seed(0)
    answers = torch.stack([predictions(Coin(), torch.zeros(200, 1, 2, 2)) for _ in range(2)])
    assert (answers == 0).float().mean() > 0.98


class Confident(nn.Module):
    """Class 0 in three answers of five, with probability 0.6. Class 1 in the others, with probability 0.99."""

    stochastic = True
    votes = 5

    def __init__(self, averages_probabilities: bool) -> None:
        super().__init__()
        self.averages_probabilities = averages_probabilities
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        own = 0.6 if self.asked % 5 < 3 else 0.01
        self.asked += 1
        return torch.tensor([own, 1 - own]).log().repeat(len(images), 1)


@pytest.mark.parametrize(("averages", "expected"), [(False, 0), (True, 1)])
def test_a_random_model_is_judged_by_its_mean_softmax_only_if_it_says_so(averages: bool, expected: int) -> None:
    model = Confident(averages)
    assert predictions(model, torch.zeros(3, 1, 2, 2)).tolist() == [expected] * 3
    assert model.asked == model.votes


def test_the_mean_softmax_of_a_logit_that_is_nan_is_no_class() -> None:
    model = Confident(averages_probabilities=True)
    model.register_forward_hook(lambda *parts: parts[2] * torch.nan)
    assert predictions(model, torch.zeros(2, 1, 2, 2)).tolist() == [-1, -1]


@pytest.mark.parametrize(("averages", "expected"), [(False, "majority"), (True, "mean softmax")])
def test_the_record_names_the_rule_of_a_random_model(averages: bool, expected: str, case: Case) -> None:
    model = Careless(case.models["standard"])
    model.averages_probabilities = averages
    random = replace(case, models={**case.models, "grfd": model}, budgets={"fgsm": {"eps": 0.0}})
    attack_all(random, Request(["whitebox"], ["fgsm"], 40))
    rule = records.read_records(case.folder)["grfd", "whitebox", "fgsm"].settings["rule"]
    assert expected in rule


def test_expected_is_the_log_of_the_mean_probability(case: Case, split: Split) -> None:
    model = case.models["standard"]
    torch.testing.assert_close(
        Expected(model, 3)(split.images).softmax(1), model(split.images).softmax(1), rtol=1e-4, atol=1e-5
    )


def test_budgets_follow_the_channels() -> None:
    assert budgets_for(1) == {name: entry.grey for name, entry in ALL_ATTACKS.items()}
    assert budgets_for(3) == {name: entry.colour for name, entry in ALL_ATTACKS.items()}


def test_one_eps_for_all_attacks_takes_the_step_sizes_along() -> None:
    ball = Ball("linf", 9 / 255)
    halved = {"norm": "linf", "eps": 9 / 255, "step_size": pytest.approx(4 / 255), "steps": 100}
    assert keywords_within("pgd", ball, grey=True) == halved
    assert keywords_within("fgsm", ball, grey=True) == {"norm": "linf", "eps": 9 / 255}
    assert keywords_within("cw", Ball("l2", 1.0), grey=True) == {"eps": 1.0}


def test_settings_are_json_and_complete(case: Case) -> None:
    attack_all(case, Request(["adaptive"], ["pgd"], 16))
    record = records.read_records(case.folder)["grfd", "adaptive", "pgd"]
    assert json.loads(json.dumps(record.settings)) == record.settings
    assert record.settings["extra"] == [["pgd", {"step_size": 0.1}], ["square", {"n_queries": 20}]]


class Wrapped(nn.Module):
    """A model with something wrong in its forward."""

    def __init__(self, model: nn.Module, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.model, images)


def _without_gradient(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def _steep_where_bright(model: nn.Module, images: Tensor) -> Tensor:
    """Logits whose size differs so much from image to image that no single factor suits all."""
    light = images.flatten(1).mean(1)
    return torch.where((light > light.quantile(0.7))[:, None], 1e4, 1.0) * model(images)


FAULTS: dict[str, tuple[str, Callable[[nn.Module, Tensor], Tensor]]] = {
    "rounding": ("vanishing gradients", lambda model, images: model((images * 4).round() / 4)),
    "no gradient": ("vanishing gradients", _without_gradient),
    "killed": ("vanishing gradients", lambda model, images: model(images * 0) + model(images).sign().detach()),
    "noise": ("random outputs", lambda model, images: model(images + 0.1 * torch.randn_like(images))),
    "saturated": ("saturated logits", _steep_where_bright),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_checks_name_a_masked_gradient(case: Case, fault: str) -> None:
    name, change = FAULTS[fault]
    masked = replace(
        case, models={"standard": case.models["standard"], "grfd": Wrapped(case.models["standard"], change)}
    )
    flagged = {(check.model, check.name) for check in run_checks(masked) if check.flagged}
    assert ("grfd", name) in flagged
    assert not any(model == "standard" for model, _ in flagged)


def test_checks_raise_no_flag_on_honest_models(case: Case) -> None:
    attack_all(case, Request(ALL, ATTACKS, 40))
    checks = run_checks(case)
    assert [check for check in checks if check.flagged] == []
    assert {check.name for check in checks} >= {"transfer beats white-box", "gradient-free beats white-box"}
