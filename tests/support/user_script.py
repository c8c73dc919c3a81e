"""A user's script: every name of `import fewscan`, as `mypy --strict` sees them. It is read by mypy and never run."""

from pathlib import Path
from typing import assert_type

import fewscan


def check_and_convert(source: Path, dataset: Path) -> list[fewscan.Fault]:
    assert_type(fewscan.convert("acdc", source, destination=dataset), Path)
    faults = fewscan.check(dataset, reporter=fewscan.Reporter(quiet=True))
    for fault in faults:
        assert_type((fault.file, fault.problem, fault.remedy, fault.fatal), tuple[str, str, str, bool])
    return faults


def train_and_look(dataset: str, folder: str) -> fewscan.Run:
    run = fewscan.train(
        dataset, folder, method="action", labelled=7, recipe="quick", settings=["plan.size=192"], seed=1, device="cpu"
    )
    assert_type(run.model, Path)
    for record in run.records:
        assert_type(record["update"], int)
        if "terms" in record:
            assert_type(record["terms"], dict[str, float | None])
        for reading in record.get("validation", {}).values():
            assert_type(reading["dice"], float | None)
    if run.validation is not None:
        assert_type(run.validation.dice, float | None)
    return run


class Watch(fewscan.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_update(self, info: fewscan.UpdateInfo) -> None:
        self.rates.append(info.learning_rate)
        assert_type((info.done, info.total, info.stage.name, info.phase.name), tuple[int, int, str, str])
        if info.is_log_due:
            highest = max(info.terms.values(), key=float)
            values: dict[str, float | None] = {"highest": float(highest), "rate": self.rates[-1]}
            self.tell({"update": info.done, "stage": info.stage.name, "values": values})

    def state_dict(self) -> dict[str, object]:
        return {"rates": self.rates}


def train_and_watch(dataset: Path) -> list[float]:
    watch = Watch()
    run = fewscan.train(dataset, "run", callbacks=[watch])
    for record in run.records:
        assert_type(record.get("values", {}), dict[str, float | None])
    return watch.rates


def predict_and_score(run: fewscan.Run, scans: list[Path]) -> fewscan.Evaluation:
    masks = fewscan.predict(run, scans, output="masks", tta=True)
    assert_type(masks, fewscan.Predictions)
    assert_type((len(masks), masks.folder, list(masks)), tuple[int, Path, list[Path]])
    scores = fewscan.evaluate("masks", "references", rules="paper", missing="skip", tolerances_mm=[1, 2.5])
    assert_type(scores.classes["LV"]["dice"], float | None)
    assert_type(scores.cases["case"]["LV"]["hd95_mm"], float | None)
    assert_type(scores.summary["n_cases"], int)
    assert_type(scores.summary["undefined"]["classes"]["LV"]["dice"], int)
    for case_spread in scores.summary.get("spread", {"mean": {}, "classes": {}})["mean"].values():
        assert_type(case_spread["interval"], list[float] | None)
    assert_type(scores.missing, list[str])
    assert_type(fewscan.report(run, "masks", images=scans, output="page.html"), Path)
    return scores


def compare(dataset: Path) -> tuple[list[fewscan.Suggestion], fewscan.BenchmarkResult]:
    suggestions = fewscan.suggest("run", dataset, count=3, output="labels.txt")
    assert_type(suggestions[0].patient, str)
    result = fewscan.benchmark(dataset, "bench", methods=["action", "ict"], labelled=[1, 3], seeds=[0])
    for row in result.rows():
        assert_type(
            (row["method"], row["labelled"], row["score"], row["score_sd"]), tuple[str, int, float, float | None]
        )
    assert_type(result.missing, tuple[str, ...])
    return suggestions, result


def demonstrate() -> str:
    try:
        return f"fewscan {fewscan.__version__}: {fewscan.demo('demo', seed=2).dice}"
    except fewscan.Interrupted as stop:
        assert_type(stop.message, str)
        raise
    except fewscan.WriteError as error:
        assert_type(error.stops_all, bool)
    except fewscan.DamagedError as error:
        assert_type(error.reason, str)
    except fewscan.DataError as error:
        assert_type(error.faults, tuple[fewscan.Fault, ...])
    except fewscan.ConfigError as error:
        return str(error)
    except fewscan.FewscanError as error:
        return str(error)
    return "something is wrong with the data"
