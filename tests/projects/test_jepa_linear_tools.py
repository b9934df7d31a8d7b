"""The command that says which features are learned first: covariances, samples, files from the wild, errors."""

import json

import numpy as np
import pytest

from projects.jepa_linear.theory import learning_time
from projects.jepa_linear.tools.order import apart, features_of, main
from projects.jepa_linear.tools.tables import read_table


def told(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    return capsys.readouterr().err


def test_lambda_and_rho_decide_the_order(capsys):
    found = told(capsys, "--lambda", 0.9, 0.75, "--rho", 0.7, 0.94, "--depth", 5)["features"]
    assert [row["jepa"] for row in found] == [2, 1] and [row["mae"] for row in found] == [1, 2]
    assert found[0]["jepa_time"] == pytest.approx(float(learning_time("jepa", 0.9, np.array(0.7), 5, 0.02)))
    assert main(["--lambda", "0.9", "0.75", "--rho", "0.7", "0.94", "--depth", "5"]) == 0
    said = capsys.readouterr().out
    assert "JEPA learns feature 2 first\nMAE learns feature 1 first" in said
    assert "(1 pairs), the larger rho comes first in 1 (JEPA) and 0 (MAE)" in said


def test_features_that_do_not_grow_are_named(capsys, tmp_path):
    found = told(capsys, "--lambda", 1, 0.7, "--rho", 0.2, 0.9, "--depth", 3)["features"]
    assert found[0]["jepa"] == "shrinks" and found[0]["jepa_time"] is None
    (tmp_path / "xx.csv").write_text("1,0\n0,1\n")
    (tmp_path / "yx.csv").write_text("0.5,0\n0,-0.5\n")
    found = told(capsys, "--inputs", tmp_path / "xx.csv", "--cross", tmp_path / "yx.csv")["features"]
    assert [row["jepa"] for row in found] == [1, "never"] and found[1]["rho"] == pytest.approx(-0.5)


def test_covariances_in_any_common_basis_give_their_features_back():
    lam, rho = np.array([0.9, 0.5, 0.7]), np.array([0.6, 1.1, 0.9])
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    inputs, cross = ((basis * values) @ basis.T for values in (lam / rho, lam))
    found = features_of(inputs, cross, ["a", "b", "c"])
    order = np.argsort(-lam)
    assert found.lam == pytest.approx(lam[order]) and found.rho == pytest.approx(rho[order])
    assert np.abs((found.directions * basis[:, order]).sum(0)) == pytest.approx(np.ones(3))
    assert apart(inputs, cross) < 1e-12
    assert apart(inputs, cross + np.triu(np.full((3, 3), 0.4), 1)) > 0.1


def test_networks_agree_with_the_theory_where_a_basis_is_shared(capsys):
    found = told(capsys, "--lambda", 0.9, 0.7, "--rho", 0.8, 0.95, "--depth", 2, "--eps", 0.1, "--networks")["features"]
    for row in found:
        for objective in ("jepa", "mae"):
            assert row[f"{objective}_network"] == pytest.approx(row[f"{objective}_time"], rel=0.01)


def samples(count=3000):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(count, 2)) * [1.0, 1.1]
    x, y = (latent + rng.normal(size=latent.shape) * [0.2, 1.0] for _ in range(2))
    return x, y


def test_samples_and_a_series(capsys, tmp_path):
    x, y = samples()
    np.savetxt(tmp_path / "x.csv", x, delimiter=";", header="clean;noisy", comments="")
    np.save(tmp_path / "y.npy", y)
    rows = told(capsys, "--data", tmp_path / "x.csv", "--targets", tmp_path / "y.npy")["features"]
    assert rows[0]["direction"].endswith("noisy") and rows[0]["rho"] == pytest.approx(1.21 / 2.21, abs=0.04)
    assert rows[1]["direction"].endswith("clean") and rows[1]["rho"] == pytest.approx(1 / 1.04, abs=0.04)
    series = np.zeros((3000, 1))
    noise = np.random.default_rng(1).normal(size=3000)
    for k in range(1, 3000):
        series[k] = 0.8 * series[k - 1] + noise[k]
    np.save(tmp_path / "series.npy", series + 5)
    (row,) = told(capsys, "--data", tmp_path / "series.npy", "--lag", 2)["features"]
    assert row["rho"] == pytest.approx(0.64, abs=0.06)


def test_covariances_without_a_common_basis_are_warned_of(capsys, tmp_path):
    (tmp_path / "xx.csv").write_text("1,0\n0,3\n")
    (tmp_path / "yx.csv").write_text("0.9,0.5\n0.2,0.6\n")
    words = ["--inputs", str(tmp_path / "xx.csv"), "--cross", str(tmp_path / "yx.csv"), "--depth", "2", "--eps", "0.1"]
    assert main(words) == 0
    assert "of a common basis, the theory is an approximation; --networks trains them" in capsys.readouterr().err
    assert main([*words, "--networks"]) == 0
    assert "mae network" in capsys.readouterr().out


def test_the_picture_is_written(capsys, tmp_path):
    assert main(["--lambda", "1", "0.7", "--rho", "0.8", "0.9", "--out", str(tmp_path / "a b.png")]) == 0
    assert (tmp_path / "a b.png").read_bytes().startswith(b"\x89PNG")


def test_features_of_any_size_are_answered_without_a_warning(capsys, recwarn):
    found = told(capsys, "--lambda", 1e-9, 1e9, 1, "--rho", 1e-6, 1e6, 1, "--depth", 50, "--eps", 1e-12)["features"]
    assert [row["jepa"] for row in found] == [1, 2, "shrinks"] and not recwarn.list


@pytest.mark.parametrize(
    ("text", "names", "numbers"),
    [
        ("1,2\n3,4\n", ["x1", "x2"], [[1, 2], [3, 4]]),
        ("\ufeffa;b\r\n1;2\r\n\r\n3;4\r\n\r\n", ["a", "b"], [[1, 2], [3, 4]]),
        ("a\tb\n1e-3\t-2\n", ["a", "b"], [[0.001, -2]]),
        ("  1   2\n  3 4\n", ["x1", "x2"], [[1, 2], [3, 4]]),
        ('"a, or b",c\n1,2', ["a, or b", "c"], [[1, 2]]),
        ("7\n8\n", ["x1"], [[7], [8]]),
        ("a;b\n1,5;-2\n3;4,25\n", ["a", "b"], [[1.5, -2], [3, 4.25]]),
        ("1,5\t2\n3\t4\n", ["x1", "x2"], [[1.5, 2], [3, 4]]),
        (",a,b\n0,1,2\n1,3,4\n", ["a", "b"], [[1, 2], [3, 4]]),
        ('"","a","b"\n"first, row",1,2\n"b",3,4\n', ["a", "b"], [[1, 2], [3, 4]]),
        ("# a, b\n1, 2\n", ["a", "b"], [[1, 2]]),
        ('"1"; "2"\n3;4\n', ["x1", "x2"], [[1, 2], [3, 4]]),
    ],
)
def test_tables_as_people_have_them(text, names, numbers, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(text, encoding="utf-8", newline="")
    found, columns = read_table(file)
    assert columns == names and found.tolist() == numbers


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"a,b\n", "a line of names and no numbers"),
        (b"1,2\n3\n", "line 2: 1 values, 2 in"),
        (b"1,2\n3,x\n", "line 2: value 2 is x, no finite number"),
        (b"1,2\n3,nan\n", "line 2: value 2 is nan, no finite number"),
        (b"1,2\n3,\n", "line 2: value 2 is empty"),
        (b"1,\xe9\n", "not UTF-8"),
        (b"1;2\n1,000,5;3\n", "line 2: value 1 is 1,000,5, no finite number"),
        (b",a\n0,1\n1,x\n", "line 3: value 2 is x"),
        (b"," + b"a" * 200_000 + b"\n1,2\n", "line 1: no line of a table"),
        (b"1e200,2\n2e200,1\n3,4\n5,1\n", "scale the data"),
        (b"<!doctype html><html>", "is a web page"),
        (b"1,1\n2,2\n3,3\n", "some direction does not vary"),
        (b"1,2\n2,5\n", "too few for --lag"),
    ],
)
def test_bad_tables_are_one_sentence(content, said, tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes(content)
    err = refused(capsys, "--data", tmp_path / "t.csv", "--lag", 1)
    assert said in err and err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of --lambda and --rho, --inputs and --cross, --data"),
        (["--lambda", 1, "--rho", 1, "--data", "x"], "not --lambda and --rho with --data"),
        (["--lambda", 1], "--lambda and --rho go together"),
        (["--inputs", "x"], "--inputs and --cross go together"),
        (["--lambda", 1, 2, "--rho", 1], "2 --lambda and 1 --rho"),
        (["--lambda", 1, "--rho", -1], "have to be above 0, not -1"),
        (["--lambda", 1, "--rho", "nan"], "have to be above 0, not nan"),
        (["--lambda", 1, "--rho", 1, "--lag", 1], "belong to --data"),
        (["--data", "x"], "--data needs either --targets"),
        (["--data", "x", "--lag", 0], "--lag 0: it has to be at least 1"),
        (["--data", "absent.csv", "--lag", 1], "absent.csv is missing"),
        (["--data", "absent.npy", "--lag", 1], "absent.npy is missing"),
        (["--lambda", 1, "--rho", 1, "--depth", 0], "--depth 0: it has to be from 1 to 50"),
        (["--lambda", 1, "--rho", 1, "--eps", 1], "--eps 1.0: it has to be from 1e-12 to less than 1"),
        (["--lambda", 1, "--rho", 1, "--out", "a.jpg"], "the picture is a .png"),
        (["--lambda", 1, "--rho", 1, "--out", "absent/a.png"], "there is no such folder"),
        (["--lambda", 1e-40, "--rho", 1], "a covariance of 1e-40: scale the data"),
        (["--lambda", 1, "--rho", 0.1, "--depth", 8, "--networks"], "no feature grows at --depth 8"),
        (["--lambda", 1, "--rho", 0.9, "--depth", 8, "--eps", 1e-6, "--networks"], "would be trained for hours"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words, said, capsys):
    err = refused(capsys, *words)
    assert said in err and err.count("\n") == 1


def test_tables_of_other_kinds_are_refused(tmp_path, capsys):
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with open(tmp_path / "several.npy", "wb") as file:
        np.savez(file, x=np.ones((2, 2)))
    (tmp_path / "bytes.npy").write_bytes(b"no array")
    for name in ("words", "flat", "objects", "several", "bytes"):
        err = refused(capsys, "--data", tmp_path / f"{name}.npy", "--lag", 1)
        assert f"{name}.npy" in err and err.count("\n") == 1
    (tmp_path / "x.csv").write_text("1,2\n0,1\n2,2\n")
    (tmp_path / "three.csv").write_text("1,2,3\n0,1,1\n2,2,1\n")
    assert "rows and columns have to agree" in refused(
        capsys, "--data", tmp_path / "x.csv", "--targets", tmp_path / "three.csv"
    )
    assert "both covariances are square" in refused(
        capsys, "--inputs", tmp_path / "x.csv", "--cross", tmp_path / "three.csv"
    )
    (tmp_path / "skew.csv").write_text("1,2\n0,1\n")
    (tmp_path / "zero.csv").write_text("0,0\n0,0\n")
    (tmp_path / "one.csv").write_text("1,0\n0,1\n")
    assert "is not symmetric" in refused(capsys, "--inputs", tmp_path / "skew.csv", "--cross", tmp_path / "one.csv")
    (tmp_path / "negative.csv").write_text("-1,0\n0,1\n")
    assert "eigenvalue -1, and is none" in refused(
        capsys, "--inputs", tmp_path / "negative.csv", "--cross", tmp_path / "one.csv"
    )
    assert "does not vary" in refused(capsys, "--inputs", tmp_path / "zero.csv", "--cross", tmp_path / "one.csv")
    assert "nothing to learn" in refused(capsys, "--inputs", tmp_path / "one.csv", "--cross", tmp_path / "zero.csv")
