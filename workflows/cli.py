"""`lpm`: the command line. Each command is a thin edge over the engine; every expected error is one sentence.

Exit codes: 0 all well, 1 the request could not be carried out (the sentence says why), 2 wrong usage, a package that
is not installed or a Python that does not fit, 3 done, but some items are in quarantine (`--allow-quarantine` turns
that into 0) or still have work to do, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from curation import extras
from curation.publish.errors import ReplayedError
from curation.pythons.find import OtherPythonError
from lpm_train.tools import cli as trainer
from workflows.checking import check as checks
from workflows.checking import one_file
from workflows.commands import card as cards
from workflows.commands import exports, identities, jobs, labels, models, new, recipes
from workflows.commands import forget as forgetting
from workflows.commands import plan as plans
from workflows.commands import query as queries
from workflows.commands import review as reviews
from workflows.commands import schema as contracts
from workflows.commands import search as searches
from workflows.performing import cli as performing
from workflows.trust import TrustOption
from workflows.usage import refuse_empty_out

app = typer.Typer(
    name="lpm", no_args_is_help=True, pretty_exceptions_enable=False,
    help="Conversation video in, WebDataset shards of speaking, listening and idle clips out.",
    epilog="Exit codes: 0 all well; 1 it could not be carried out, or a check failed; 2 wrong usage, or a package "
    "that is not installed; 3 done, but items are in quarantine (run --allow-quarantine makes that 0); 130 Ctrl-C.",
)  # fmt: skip
app.add_typer(models.app, name="models")
app.add_typer(new.app, name="new")
app.add_typer(labels.app, name="labels")
app.add_typer(identities.app, name="identities")
app.add_typer(recipes.app, name="recipe")
app.add_typer(exports.exports, name="export")
app.add_typer(exports.imports, name="import")
app.add_typer(trainer.train, name="train")

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Target = Annotated[str, typer.Argument(help="the dataset: a directory or an s3:// prefix")]
InputsArgument = Annotated[
    list[str] | None, typer.Argument(help="files, folders, globs, s3:// prefixes, CSV/Parquet/JSONL lists")
]
WorkflowOption = Annotated[
    str | None, typer.Option(help="built-in workflow or YAML file; default: the dataset's own, else conversation")
]
WaitOption = Annotated[bool, typer.Option(help="do not check that the cluster can place every stage (autoscaling)")]
OneFile = Annotated[str, typer.Argument(help="a video file")]
KeptOption = Annotated[str | None, typer.Option("--out", help="keep the measurements as this dataset")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
PolicyOption = Annotated[str | None, typer.Option("--policy", help="built-in policy or YAML file")]


@app.command()
def run(
    inputs: InputsArgument = None,
    out_: Annotated[str, typer.Option("--out", help="the dataset to make or go on with")] = ...,  # type: ignore[assignment]
    workflow: WorkflowOption = None,
    policy: PolicyOption = None,
    engine: Annotated[str, typer.Option(help="ray or local")] = "ray",
    address: Annotated[str | None, typer.Option(help="Ray address; none starts a local Ray")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="stage.setting=value")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="try quarantined items again")] = False,
    wait_for_nodes: WaitOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="wait for another run that writes the dataset")] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="refuse models whose licence is for research only, or not known")
    ] = False,
    allow_quarantine: Annotated[bool, typer.Option(help="exit 0 even when items are in quarantine")] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="run stages in the process that runs the steps, for debuggers")
    ] = False,
    trust_code: TrustOption = False,
) -> None:
    """Run a workflow: measure every input, decide, pack, report. Run it again to go on or to add inputs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a run ends it in order
    try:
        quarantined, pending = jobs.run(
            err, out, inputs or [], out_, workflow, policy, engine, address, set_ or [],
            retry=retry, wait_for_nodes=wait_for_nodes, commercial=commercial, wait=wait, in_process=in_process,
            trusted=trust_code,
        )  # fmt: skip
    except KeyboardInterrupt:
        err.print(jobs.stopped(out_, engine, address), markup=False, highlight=False)
        raise typer.Exit(130) from None
    if pending or (quarantined and not allow_quarantine):
        raise typer.Exit(3)


@app.command()
def plan(
    inputs: InputsArgument = None,
    workflow: Annotated[str, typer.Option(help="built-in workflow or YAML file")] = "conversation",
    like: Annotated[
        str | None, typer.Option(metavar="DATASET", help="take the rates from a finished dataset of like footage")
    ] = None,
    nodes: Annotated[list[int] | None, typer.Option(min=1, help="machines; may be given several times")] = None,
    cores: Annotated[int, typer.Option(min=1, help="cores of one machine")] = 16,
    sample: Annotated[int, typer.Option(min=1, help="files whose headers are opened")] = 200,
    seed: Annotated[int, typer.Option(help="which files those are")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a run over these inputs will take: hours of video, core-hours by stage, time on n machines."""
    plans.plan(out, inputs or [], workflow, like, nodes or [1, 4, 16, 64], cores, sample, seed, json_)


@app.command()
def status(
    dataset: Target,
    gate: Annotated[
        bool, typer.Option("--gate", help="exit with 1 where people's verdicts do not reach the policy's bounds")
    ] = False,
) -> None:
    """Show the funnel beside the paper's, the ledger, what people judged, and the speed of every stage."""
    jobs.status(out, dataset)
    if gate and not jobs.gate(err, dataset):
        raise typer.Exit(1)


@app.command()
def review(
    dataset: Target,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8765,
    host: Annotated[str, typer.Option(help="where to listen; beyond this machine a token is needed")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="asked for at the first visit; made where it is needed")] = None,
    author: Annotated[str | None, typer.Option(help="who judges; default: the name you are logged in under")] = None,
) -> None:
    """Sample, watch and judge clips in the browser: what was kept, and what was left out, from its source."""
    reviews.review(out, dataset, host, port, token, author)


@app.command()
def query(
    dataset: Target,
    sql: Annotated[str, typer.Argument(help="SQL over the dataset's tables")],
    format_: Annotated[str, typer.Option("--format", help="table, long (whole values), csv, json, parquet")] = "table",
    out_: Annotated[Path | None, typer.Option("--out", help="write to a file instead")] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="let it read and write other files too, and be more than one SELECT")
    ] = False,
    max_s: Annotated[float, typer.Option("--max-s", help="seconds that it may take; 0 = no end")] = 600,
    max_memory: Annotated[
        float, typer.Option("--max-memory", metavar="GB", help="memory that it may take; 0 = half of the machine's")
    ] = 0,
) -> None:
    """Run SQL over the dataset: one SELECT, which reads this dataset and nothing else."""
    queries.query(out, dataset, sql, format_, out_, unsafe, queries.bounds_of(max_s, max_memory))


@app.command()
def search(
    dataset: Target,
    text: Annotated[str | None, typer.Argument(help="what the clip shows, in words")] = None,
    like: Annotated[str | None, typer.Option(metavar="ID", help="search by a sample instead of words")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="pairs of samples of different sources that show nearly the same")
    ] = False,
    above: Annotated[float, typer.Option(min=-1, max=1, help="with --duplicates: cosine from which on")] = 0.97,
    references: Annotated[
        bool, typer.Option("--references", help="search the reference images, not the clips")
    ] = False,
    state: Annotated[str | None, typer.Option(help="samples of one state only")] = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="condition over the manifest's columns")] = None,
    limit: Annotated[int, typer.Option(min=1, help="most rows")] = 20,
    model: Annotated[str | None, typer.Option(help="where the model lies here; default: as the workflow says")] = None,
    format_: Annotated[str, typer.Option("--format", help="table, long (whole values), csv, json, parquet")] = "table",
    out_: Annotated[Path | None, typer.Option("--out", help="write to a file instead")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="compare all samples even where there is an index")] = False,
    index: Annotated[
        bool, typer.Option("--index", help="make an index for large datasets, and search nothing")
    ] = False,
    trust_code: TrustOption = False,
) -> None:
    """Find samples by words, by another sample, or those that show nearly the same, by their vectors."""
    if index:
        searches.build_index(out, dataset)
        return
    asked = searches.Asked(text, like, duplicates, above, references, state, where, limit, model, exact, trust_code)
    searches.search(out, err, dataset, asked, format_, out_)


@app.command()
def explain(
    dataset: Target,
    unit_id: Annotated[str, typer.Argument(metavar="ID", help="source, shot, track, segment or sample id")],
    policy: PolicyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell everything known of one unit: measurements, every rule with value and threshold, why it was kept or not."""
    jobs.explain(out, dataset, unit_id, policy, as_json)


@app.command()
def decide(
    dataset: Target,
    policy: Annotated[str, typer.Option("--policy", help="built-in policy or YAML file")],
    dry_run: Annotated[bool, typer.Option(help="only print what would change")] = False,
    trust_code: TrustOption = False,
) -> None:
    """Decide again under another policy, without decoding a frame; print what changes."""
    jobs.decide(out, dataset, policy, dry_run, trust_code)


@app.command()
def pack(
    dataset: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be written")] = False,
    trust_code: TrustOption = False,
) -> None:
    """Write shards and manifest for what is kept now."""
    jobs.pack(err, out, dataset, dry_run, trust_code)


@app.command()
def compact(
    dataset: Target,
    min_files: Annotated[int, typer.Option(help="gather a bucket's files from this many on")] = 2,
) -> None:
    """Gather small table files into larger ones, so that very many sources stay quick to query."""
    jobs.compact(out, dataset, min_files)


@app.command()
def forget(
    dataset: Target,
    sources: Annotated[list[str] | None, typer.Argument(help="source ids, paths or file names")] = None,
    identity: Annotated[
        list[str] | None, typer.Option("--identity", help="a person: every source in which their face was seen")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="kept with the hash, e.g. a request's number")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option(help="only say what would go")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="let forgotten source ids be taken in again")] = False,
    trust_code: TrustOption = False,
) -> None:
    """Take sources or people out for good: tables, clips, shards, references, logs. Searches all that is left for them.

    Their bytes are refused from then on. Exit code 1 where a trace is left.
    """
    if lift:
        forgetting.lift_all(out, dataset, sources or [])
    elif forgetting.forget(
        err, out, dataset, sources or [], identity or [], reason, yes=yes, dry_run=dry_run, trusted=trust_code
    ):
        raise typer.Exit(1)


@app.command()
def verify(
    dataset: Target,
    media: Annotated[
        bool | None, typer.Option(help="decode every packed sample too; default: where the packages for it are here")
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="check the tables only and open no shard")] = False,
    root: Annotated[
        str | None, typer.Option(help="the hash that the whole dataset must have, as printed before")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="mend first what can be mended from what is intact")] = False,
    part: Annotated[
        float | None, typer.Option(metavar="SHARE", help="read this share of the sources and shards only, e.g. 0.02")
    ] = None,
    seed: Annotated[int, typer.Option(help="with --part: another seed draws another part")] = 0,
    trust_code: TrustOption = False,
) -> None:
    """Certify a dataset: hashes, samples against tables, decoded media, conservation, ids; prints its root."""
    if jobs.verify(out, dataset, media, tables, root, repair, part, seed, trust_code):
        raise typer.Exit(1)


@app.command()
def check(
    foreign: Annotated[
        str, typer.Argument(metavar="FOREIGN", help="a folder of clips, WebDataset tars, Parquet with media, or a file")
    ],
    out_: Annotated[
        str | None, typer.Option("--out", help="where findings and measurements go; default: check-NAME here")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="FINDING", help="leave out a kind of finding")] = None,
    limit: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="another threshold")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="where fps, identity, ... are; @folder, @name:REGEX"),
    ] = None,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="the two channels of the sound are speak and listen")
    ] = False,
    engine: Annotated[str, typer.Option(help="ray or local")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray address; none starts a local Ray")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="stage.setting=value")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Hold a dataset that others published against what is measured of it; changes nothing there.

    Exit codes: 0 no finding, 1 findings, 2 it could not be checked.
    """
    if checks.run(
        err, out, foreign, out_, ignore or [], limit or [], field or [], engine, address, set_ or [],
        two_tracks=tracks, as_json=json_,
    ):  # fmt: skip
        raise typer.Exit(1)


@app.command()
def sync(file: OneFile, out_: KeptOption = None, json_: JsonOption = False) -> None:
    """Say how far the sound of one file is from the lips, and how sure that is."""
    one_file.sync(err, out, file, out_, json_)


@app.command()
def states(file: OneFile, out_: KeptOption = None, json_: JsonOption = False) -> None:
    """Say who speaks, listens or is idle when, in one file."""
    one_file.states(err, out, file, out_, json_)


@app.command()
def people(
    file: OneFile,
    portraits: Annotated[Path | None, typer.Option(help="folder to write one portrait of each person to")] = None,
    out_: KeptOption = None,
    json_: JsonOption = False,
) -> None:
    """Say who is seen in one file: people, when, where, for how long."""
    one_file.people(err, out, file, portraits, out_, json_)


@app.command()
def report(dataset: Target) -> None:
    """Write report/index.html."""
    jobs.report(out, dataset)


@app.command()
def card(
    dataset: Target,
    name: Annotated[str | None, typer.Option(help="what the dataset is called; default: its folder's name")] = None,
    url: Annotated[str | None, typer.Option(help="where it is published")] = None,
) -> None:
    """Write the dataset's card (README.md, as Hugging Face reads it) and Croissant metadata (croissant.json)."""
    cards.card(out, dataset, name, url)


@app.command()
def schema(
    name: Annotated[
        str, typer.Argument(help="a table, units_tracks and the like, sample, caption, policy, workflow, or 'list'")
    ],
    dataset: Annotated[
        str | None, typer.Argument(help="a dataset, whose own stages' tables and packed columns are then known")
    ] = None,
) -> None:
    """Print the JSON Schema of a table, of a rule's view, or of a sample, caption, policy or workflow."""
    sys.stdout.write(json.dumps(contracts.schema(name, dataset), indent=1) + "\n")


@app.command()
def demo(
    out_: Annotated[str, typer.Option("--out", help="the dataset to make")] = "demo/dataset",
) -> None:
    """Fetch a small real clip and the weights, run the workflow on it, and show what came out."""
    from workflows.demo import demo as shown  # its models' runtimes take a second to import

    if any(shown(err, out, out_)):
        raise typer.Exit(3)


app.command()(trainer.stream)
app.command()(performing.perform)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit."""
    given = arguments or sys.argv[1:]
    try:
        refuse_empty_out(given)
        app(args=arguments, prog_name="lpm")
    except Exception as e:
        command = given[:1]
        absent = extras.absence(e, prefer="train" if command in (["train"], ["stream"], ["perform"]) else None)
        said = absent or jobs.answer(e, given)
        checking = command == ["check"]  # whose exit code 1 says that there are findings
        unfit = isinstance(e, (OtherPythonError, ReplayedError))
        if said is not None:
            err.print(f"lpm: {said}", markup=False, highlight=False, style="red")
        elif checking:
            traceback.print_exception(e)
        else:
            raise
        sys.exit(2 if absent is not None or unfit or checking else 1)
    except KeyboardInterrupt:
        err.print("lpm: stopped; finished work is kept, run the same command to go on", markup=False)
        sys.exit(130)


if __name__ == "__main__":
    main()
