"""fewscan report: what the page is made from, what it leaves out, and what is refused."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import fewscan
from fewscan.cli import app
from fewscan.commands.report import report
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.evaluate import evaluate_folders
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_geometry, write_scan
from support.known import known
from support.scans import TINY, disc, make_dataset

CLASS = "disc</script><b>&"
QUALITY = "case,dice_estimate,dice_low,dice_high,flagged,reason,entropy,agreement_teacher,agreement_tta,outlier\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "set"
    make_dataset(root, labelled=5, unlabelled=2, labels={"background": 0, CLASS: 1})
    names = [f"case_{i:02d}" for i in range(5)]
    write_json(root / "splits.json", {"train": names[:3], "val": names[3:]})
    return root


def train(dataset: Path, output: Path, method: str = "action", **more: Any) -> Path:
    return fewscan.train(
        dataset, output, method=method, labelled=2, recipe="quick", settings=TINY, device="cpu", **more
    ).folder


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(dataset, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(dataset: Path, trained: Path, tmp_path: Path) -> Path:
    """A run whose masks are known: one of them good, the other one not."""
    run = shutil.copytree(trained, tmp_path / "run")
    for name, radius in (("case_03", 5), ("case_04", 2)):
        where = read_geometry(dataset / "imagesTr" / f"{name}_0000.nii.gz")
        write_scan(run / "validation" / f"{name}.nii.gz", disc(where.shape, radius), where)
    write_json(
        run / "validation" / "summary.json",
        evaluate_folders(run / "validation", dataset / "labelsTr", class_names=("background", CLASS), missing="skip"),
    )
    return run


def page_of(run: Path | str, *arguments: Path, **more: Any) -> str:
    return report(run, *arguments, **more).read_text(encoding="utf-8")


def facts_of(page: str) -> dict[str, Any]:
    return json.loads(known(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL))[1])


def test_training_ends_with_the_page(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    for heading in ("Is it good?", "Validation cases", "Strict rules", "Paper rules", "Loss terms", "Class relations"):
        assert heading in page
    # Of one class none is the weakest.
    assert "Mean over 2 validation scans" in page
    assert "Weakest class" not in page
    strip = page[page.index("Labelled training scans</h3>") : page.index('id="provenance"')]
    assert re.findall(r'aria-label="(case_\d\d): middle slices, outlines of the mask"', strip) == ["case_00", "case_01"]
    assert strip.count('<path class="labelled c1" d="M') == 2
    assert page.count('alt="Pseudo-label"') == 3 * 3
    made = read_json(trained / "provenance.json")
    assert {made["sha256"][name] for name in ("model.safetensors", "files.json")} <= set(re.findall(r"\w{64}", page))
    assert made["resumed_after"] is None


def test_the_page_can_be_turned_off(dataset: Path, tmp_path: Path) -> None:
    settings = (*TINY, "report.page=false")
    run = fewscan.train(dataset, tmp_path / "run", labelled=2, recipe="quick", settings=settings, device="cpu").folder
    assert not (run / "report.html").exists()
    assert (run / "provenance.json").is_file()


def test_nothing_in_it_points_elsewhere_and_names_are_escaped(run: Path) -> None:
    page = page_of(run)
    own = re.sub(r"/\*\nNiiVue.*?</script>", "", page, flags=re.DOTALL)
    assert len(own) < len(page)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", own)
    assert "default-src 'none'" in page
    assert CLASS not in own
    assert facts_of(page)["classes"] == [CLASS]


def test_cases_are_sorted_worst_first_and_limited(run: Path) -> None:
    page = page_of(run)
    assert [case["name"] for case in facts_of(page)["cases"]] == ["case_04", "case_03"]
    assert "Worst cases: case_04" in page
    assert page_of(run) == page
    limited = page_of(run, most_cases=1)
    assert [case["name"] for case in facts_of(limited)["cases"]] == ["case_04"]
    assert "1 more cases" in limited
    assert 'id="volume-0-image"' in limited
    assert 'id="volume-1-image"' not in limited


def test_estimates_suggestions_and_alarms_are_shown(run: Path) -> None:
    (run / "validation" / "quality.csv").write_text(
        QUALITY + "case_03,0.9,0.8,1.0,False,,,,,\ncase_04,0.4,0.2,0.6,True,views differ,,,,\n"
    )
    row = {"patient": "case_05", "cases": ["case_05"], "score": 1, "uncertainty": 0.5, "distance": 2, "reason": "odd"}
    write_json(run / "suggestions.json", [row])
    page = page_of(run)
    assert "Label a few more" not in page
    assert "Look at this one: views differ" in page
    assert "True Dice against the estimate" in page
    assert "Label these next" in page
    assert [case["flagged"] for case in facts_of(page)["cases"]] == [True, False]
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"update": 9, "alarm": "collapse", "message": "<all> background"}) + "\n")
    page = page_of(run)
    assert "<b>collapse</b>, update 9: &lt;all&gt; background" in page
    assert "Look at the alarms" in page
    write_json(run / "suggestions.json", [{"patient": "case_05"}])
    with pytest.raises(DataError, match=r"suggestions\.json: not what fewscan writes there"):
        report(run)


def test_predictions_have_no_reference(run: Path, dataset: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("case_03", "case_05", "case_06"):
        where = read_geometry(dataset / "imagesTr" / f"{name}_0000.nii.gz")
        write_scan(masks / f"{name}.nii.gz", disc(where.shape), where)
    (masks / "quality.csv").write_text(QUALITY + "case_05,0.4,0.3,0.5,True,,,,,\ncase_06,0.2,0.1,0.3,True,,,,,\n")
    page = page_of(run, masks)
    assert (masks / "report.html").is_file()
    cases = facts_of(page)["cases"]
    assert [case["name"] for case in cases] == ["case_06", "case_05", "case_03"]
    assert all(case["volumes"] == ["image", "prediction"] and case["scores"] == {} for case in cases)
    assert "Predicted cases" in page
    moved = shutil.copytree(dataset / "imagesTr", tmp_path / "scans")
    write_json(run / "provenance.json", {**read_json(run / "provenance.json"), "dataset": str(tmp_path / "gone")})
    assert facts_of(page_of(run, masks, images=[moved])) == facts_of(page)
    (moved / "case_05_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no image for case_05\. Give the folder of the scans with --images"):
        report(run, masks, images=[moved])
    with pytest.raises(DataError, match=r"no longer in .*\. Give the scans with --images"):
        report(run, masks)
    with pytest.raises(DataError, match="holds no masks"):
        report(run, dataset, dataset=dataset)


def test_predictions_are_compared_with_references_that_are_given(run: Path, dataset: Path, tmp_path: Path) -> None:
    masks, truth = tmp_path / "masks", tmp_path / "truth"
    masks.mkdir()
    truth.mkdir()
    for name, radius in (("case_03", 4), ("case_05", 3), ("case_06", 4)):
        where = read_geometry(dataset / "imagesTr" / f"{name}_0000.nii.gz")
        write_scan(masks / f"{name}.nii.gz", disc(where.shape, radius), where)
        if name != "case_06":
            write_scan(truth / f"{name}.nii.gz", disc(where.shape, 4), where)
    (masks / "quality.csv").write_text(QUALITY + "case_06,0.2,0.1,0.3,True,,,,,\n")
    page = page_of(run, masks, references=truth)
    expected = evaluate_folders(masks, truth, class_names=("background", CLASS))
    cases = {case["name"]: case for case in facts_of(page)["cases"]}
    assert list(cases) == ["case_06", "case_05", "case_03"]
    for name in ("case_03", "case_05"):
        assert cases[name]["scores"][CLASS] == expected["cases"][name][CLASS]["dice"]
        assert "reference" in cases[name]["volumes"]
    assert cases["case_06"]["scores"] == {}
    assert cases["case_06"]["volumes"] == ["image", "prediction"]
    assert "over 2 patients" in page
    assert "2 predicted scans that have a reference" in page
    assert f"Dice {known(expected['mean']['dice']):.3f}" in page
    with pytest.raises(ConfigError, match="give the folder that"):
        report(run, references=truth)
    with pytest.raises(ConfigError, match="Give one of the two"):
        report(run, masks, references=truth, compare=run)
    with pytest.raises(DataError, match="no reference for 3 predictions"):
        report(run, masks, references=dataset / "imagesTr")


def test_a_data_set_that_is_not_to_be_found_is_asked_for(run: Path, dataset: Path, tmp_path: Path) -> None:
    told = read_json(run / "provenance.json")
    write_json(run / "provenance.json", {**told, "dataset": str(tmp_path / "gone")})
    with pytest.raises(DataError, match=r"no longer in .*gone\. Give its folder with --dataset"):
        report(run)
    (run / "provenance.json").unlink()
    with pytest.raises(DataError, match=r"does not say where its data set is\. Give"):
        report(run)
    page = page_of(run, dataset=dataset)
    assert "has no provenance.json" in page
    other = make_dataset(tmp_path / "other", labelled=1, unlabelled=0)
    with pytest.raises(DataError, match=r"lacks \d+ of the run's cases: case_01"):
        report(run, dataset=other)


def test_older_runs_have_no_pictures_of_training(run: Path) -> None:
    shutil.rmtree(run / "gallery")
    (run / "embedding.json").unlink()
    page = page_of(run)
    assert "kept no pictures of its pseudo-labels" in page
    assert "kept no map of its representations" in page


def test_a_supervised_run_tells_whether_the_unlabelled_scans_helped(
    run: Path, dataset: Path, trained: Path, tmp_path: Path
) -> None:
    assert "There is no supervised run" in page_of(run)
    rival = train(dataset, tmp_path / "supervised-02-s0", "supervised")
    beside = page_of(run)
    assert "Dice against supervised-02-s0" in beside
    moved = shutil.move(rival, tmp_path / "elsewhere")
    assert "Dice against elsewhere" in page_of(run, compare=moved)
    assert "None were used" in page_of(moved)
    for other in (trained, train(dataset, tmp_path / "seed", "supervised", seed=1)):
        with pytest.raises(ConfigError, match="not a finished supervised run of the same scans and settings"):
            report(run, compare=other)


def age(run: Path) -> Path:
    """Let an older version have made a run, which had other settings and did not say in which precision it trained."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["training"]
    config |= {"precision": "auto", "stages": {"anatomical": {"updates": 9, "labelled": 4, "unlabelled": 4}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    provenance = read_json(run / "provenance.json")
    del provenance["precision"]
    write_json(run / "provenance.json", provenance)
    return run


def test_a_run_of_an_older_version_has_a_page_a_rival_and_masks(run: Path, dataset: Path, tmp_path: Path) -> None:
    page = page_of(run)
    assert "Arithmetic" in page
    assert "Arithmetic" not in page_of(age(run))
    rival = age(train(dataset, tmp_path / "rival", "supervised"))
    assert "Dice against rival" in page_of(run, compare=rival)
    longer = shutil.copytree(rival, tmp_path / "longer")
    (longer / "config.yaml").write_text((longer / "config.yaml").read_text().replace("updates: 9", "updates: 10"))
    with pytest.raises(ConfigError, match="not a finished supervised run of the same scans and settings"):
        report(run, compare=longer)
    scans = [dataset / "imagesTr" / "case_03_0000.nii.gz"]
    assert len(fewscan.predict(run, scans, output=tmp_path / "masks", device="cpu")) == 1


def test_without_validation_the_page_says_so(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=2)
    page = (train_one(root, tmp_path / "run") / "report.html").read_text(encoding="utf-8")
    assert "No case to show" in page
    assert "Nothing was scored" in page
    # Without a case there is nothing to view.
    assert "NiiVue" not in page
    assert len(page) < 300_000


def train_one(root: Path, output: Path) -> Path:
    return fewscan.train(root, output, recipe="quick", settings=TINY, device="cpu").folder


def test_volumes_are_the_scans(run: Path, dataset: Path) -> None:
    page = page_of(run)
    packed = known(re.search(r'id="volume-0-reference">([^<]*)<', page))[1]
    import gzip

    import nibabel

    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed)))
    where = read_geometry(dataset / "imagesTr" / "case_04_0000.nii.gz")
    assert np.allclose(image.header.get_zooms(), where.spacing_mm[::-1])
    assert np.asarray(image.dataobj).sum() == disc(where.shape).sum()


def test_every_option_of_the_command_counts(run: Path, dataset: Path, tmp_path: Path) -> None:
    write_json(run / "provenance.json", {**read_json(run / "provenance.json"), "dataset": str(tmp_path / "gone")})
    images, masks, output = [], tmp_path / "masks", tmp_path / "o.html"
    masks.mkdir()
    for name in ("new_a", "new_b"):
        where = read_geometry(dataset / "imagesTr" / "case_03_0000.nii.gz")
        images.append(Path(shutil.copy(dataset / "imagesTr" / "case_03_0000.nii.gz", tmp_path / f"{name}_0000.nii.gz")))
        write_scan(masks / f"{name}.nii.gz", disc(where.shape), where)
    options = [str(part) for image in images for part in ("--images", image)]
    command = ["report", str(run), str(masks), "-o", str(output), *options, "--most-cases", "1", "-q"]
    done = CliRunner().invoke(app, [*command, "--dataset", str(dataset)])
    assert done.exit_code == 0
    page = output.read_text(encoding="utf-8")
    assert [case["name"] for case in facts_of(page)["cases"]] == ["new_a"]
    assert "1 more cases" in page
    # Nothing but the data set tells it.
    assert "Spacing, mm" in page
    refused = CliRunner().invoke(app, [*command, "--compare", str(run)])
    assert f"{run}: not a finished supervised run" in str(refused.exception)
