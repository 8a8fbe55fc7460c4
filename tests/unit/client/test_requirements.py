"""What is required is read from wherever people write it, and brought into one form."""

from pathlib import Path

import pytest

from lineshaft import Filter, Pipeline
from lineshaft.filters import Function
from lineshaft.graph import Graph
from lineshaft.graph_needs import ConflictingRequirementsError, with_needs
from lineshaft.options import Options
from lineshaft.requirements import Needs, read_requirements, read_script
from lineshaft_runtime.requirements import RequirementsError, parse_requirements


class Plain(Filter):
    def forward(self, x: object) -> object:
        return x


class Scaled(Plain):
    requirements = ("numpy>=2", "Tiny==1.0")


def lines_of(options: Options) -> tuple[str, ...]:
    return () if options.needs is None else options.needs.requirements.lines


def test_spaces_case_order_and_comments_make_no_difference() -> None:
    one = parse_requirements(["NumPy >= 2, <3  # fast", "a_b.c[Y, x]==1 ; python_version<'3.12'"])
    other = parse_requirements(["a-b-c[x,y] == 1; python_version<'3.12'\nnumpy<3,>=2"])

    assert one.text() == other.text()
    assert one.lines[1] == "numpy<3,>=2"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("./here", "means nothing on the worker"),
        ("-e .", "means nothing on the worker"),
        ("-r other.txt", "requirements=Path('requirements.txt')"),
        ("--trusted-host x", "not supported"),
        ("numpy >> 2", "this is no requirement"),
        ("--index-url", "its address is missing"),
        ("--require-hashes\ntiny==1", "has no --hash"),
    ],
)
def test_what_cannot_work_on_a_worker_is_said_here(line: str, says: str) -> None:
    with pytest.raises(RequirementsError) as failed:
        parse_requirements([line])

    assert says in str(failed.value)


def test_a_file_a_project_and_a_script_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("numpy>=2\n")
    (tmp_path / "all.txt").write_text("-r more.txt\ntiny\n")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["tiny", "numpy>=2"]\n')
    script = "# /// script\n# dependencies = ['tiny', 'numpy>=2']\n# ///\n"

    found = [
        read_requirements(tmp_path / "all.txt"),
        read_requirements(str(tmp_path / "pyproject.toml")),
        read_script(script),
        read_requirements(["numpy>=2", "tiny"]),
    ]

    assert [each.requirements for each in found] == [found[0].requirements] * 4
    assert found[0].requirements.lines == ("numpy>=2", "tiny")


def test_what_all_parts_of_a_pipeline_require_is_required_of_its_plan() -> None:
    def stretch(x: object) -> object:
        return x

    stretch.requirements = ["lsstretch"]  # type: ignore[attr-defined]
    inner = Pipeline([("plain", Plain())], requirements=["lsinner"])
    pipeline = Pipeline(
        [("scaled", Scaled()), ("stretch", stretch), ("inner", inner)], requirements=["lswhole"]
    )

    options = with_needs(Options(needs=read_requirements(["lsoption"])), pipeline.graph)

    wanted = ("lsinner", "lsoption", "lsstretch", "lswhole", "numpy>=2", "tiny==1.0")
    assert lines_of(options) == wanted


def test_what_loops_and_branches_require_counts() -> None:
    body = Pipeline([("scaled", Scaled())], requirements=["lsbody"]).graph
    graph = Graph().loop("again", body, max_iterations=2)

    assert lines_of(with_needs(Options(), graph)) == ("lsbody", "numpy>=2", "tiny==1.0")


def test_a_pipeline_that_requires_nothing_runs_with_what_its_worker_has() -> None:
    options = Options()

    assert with_needs(options, Pipeline([("plain", Plain())]).graph) is options


def test_an_empty_list_asks_for_an_empty_environment() -> None:
    pipeline = Pipeline([("plain", Plain())], requirements=[])

    assert with_needs(Options(), pipeline.graph).needs == Needs()


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (["tiny==2"], "tiny==1.0 and tiny==2"),
        (["--index-url https://a.example/", "other"], None),
        (["tiny==1"], None),
        (["tiny==2 ; python_version<'3.0'"], None),
        (["tiny>=2"], None),
    ],
)
def test_filters_that_contradict_each_other_are_named(theirs: list[str], says: str | None) -> None:
    class Other(Plain):
        requirements = theirs

    graph = Pipeline([("one", Scaled()), ("other", Other())]).graph

    if says is None:
        assert lines_of(with_needs(Options(), graph))
        return
    with pytest.raises(ConflictingRequirementsError, match=says) as failed:
        with_needs(Options(), graph)
    assert (failed.value.one, failed.value.other) == ("node 'one'", "node 'other'")


def test_a_filter_whose_requirement_cannot_be_read_is_named() -> None:
    class Bad(Plain):
        requirements = ("./here",)

    with pytest.raises(RequirementsError, match=r"^node 'bad': requirement './here'"):
        with_needs(Options(), Pipeline([("bad", Bad())]).graph)


def test_an_estimators_attributes_are_its_own_affair() -> None:
    class Estimates:
        requirements = "auto"

        def fit(self, x: object) -> object:
            return x

        def predict(self, x: object) -> object:
            return x

    graph = Pipeline([("e", Estimates()), ("f", Function(str))]).graph

    assert with_needs(Options(), graph).needs is None
