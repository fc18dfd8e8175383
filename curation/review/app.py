"""The review as a WSGI application: what each address answers. Everything is JSON, but media and the page's own files.

An error that a person can do something about is one sentence under `error`, with a status that says whose fault it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any

import duckdb
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

from curation.audit.audits import AuditError, Said, judge, undo
from curation.audit.precision import Audit, audit
from curation.dataset import Dataset, DatasetError
from curation.decisions.rules import thresholds_of
from curation.decisions.tune import moved, policy_text
from curation.engine.run import RunStoppedError
from curation.labels.corrections import CorrectionError
from curation.labels.corrections import undo as uncorrect
from curation.labels.identities import IdentityError
from curation.media.errors import MediaError
from curation.report.status import policy_in_force
from curation.review.correct import correct, fields, people, waiting
from curation.review.draw import DrawError, columns, described, drawn, parse
from curation.review.guard import Guard, with_headers
from curation.review.media import TRACKS, Media, Playable
from curation.review.tune import Chosen, Tuner, tunable
from curation.review.watch import NotThereError, watch
from curation.storage.store import StoreError
from schemas import tables as t
from schemas.settings.policy import Policy, PolicyError
from schemas.tables.audits import ASPECTS
from schemas.units import UNITS

FAULTS: dict[type[Exception], int] = {
    DrawError: 400, PolicyError: 400, CorrectionError: 400, IdentityError: 400, AuditError: 400, DatasetError: 400,
    duckdb.Error: 400, NotThereError: 404, FileNotFoundError: 404, RunStoppedError: 409, MediaError: 422,
    StoreError: 500,
}  # fmt: skip
SCRIPTS = ("main", "dom", "sample", "watch", "player", "lanes", "judge", "correct", "tune", "numbers")
PAGE = {
    "page.css": "text/css", "favicon.svg": "image/svg+xml", **{f"{name}.js": "text/javascript" for name in SCRIPTS}
}  # fmt: skip
_ROUTES = Map(
    [
        Rule("/", endpoint="page", methods=["GET"]),
        Rule("/<name>", endpoint="part", methods=["GET"]),
        Rule("/api/dataset", endpoint="about", methods=["GET"]),
        Rule("/api/units", endpoint="units", methods=["GET"]),
        Rule("/api/unit/<unit_id>", endpoint="unit", methods=["GET"]),
        Rule("/api/stretch", endpoint="stretch", methods=["GET"]),
        Rule("/api/clip", endpoint="clip", methods=["GET"]),
        Rule("/api/precision", endpoint="precision", methods=["GET"]),
        Rule("/api/judge", endpoint="judge", methods=["POST"]),
        Rule("/api/undo", endpoint="undo", methods=["POST"]),
        Rule("/api/correct", endpoint="correct", methods=["POST"]),
        Rule("/api/uncorrect", endpoint="uncorrect", methods=["POST"]),
        Rule("/api/people", endpoint="people", methods=["GET"]),
        Rule("/api/tune", endpoint="tune", methods=["GET"]),
        Rule("/policy.yaml", endpoint="policy_file", methods=["GET"]),
        Rule("/media/<name>", endpoint="media", methods=["GET"]),
        Rule("/picture/<track_id>/<int:k>", endpoint="portrait", methods=["GET"]),
        Rule("/reference/<segment_id>/<kind>/<int:n>", endpoint="reference", methods=["GET"]),
    ]
)


class Review:
    """One dataset under review."""

    def __init__(self, dataset: Dataset, guard: Guard, author: str, policy_text: str | None = None) -> None:
        """Review a dataset; `policy_text` is the text of its policy's file, where that is known."""
        self._dataset, self._guard, self._author, self._policy_text = dataset, guard, author, policy_text
        self.media, self._tuner = Media(dataset), Tuner(dataset)

    def close(self) -> None:
        """Delete what was made for the page."""
        self.media.close()
        self._tuner.close()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        request = Request(environ)
        request.max_content_length = 64_000
        try:
            answer = self._guard.stop(request) or self._answer(request)
        except HTTPException as e:
            answer = with_headers(e)
        except tuple(FAULTS) as e:
            status = next(code for kind, code in FAULTS.items() if isinstance(e, kind))
            answer = _json({"error": str(e).splitlines()[0]}, status)
        return with_headers(answer)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        endpoint, values = _ROUTES.bind_to_environ(request.environ).match()
        method: Callable[..., Response] = getattr(self, f"_{endpoint}")
        return method(request, **values)

    def _who(self, request: Request) -> str:
        return request.args.get("author", "").strip() or self._author

    def _policy(self) -> Policy:
        return policy_in_force(self._dataset) or Policy(name="none", rules=())

    def _page(self, request: Request) -> Response:
        return Response(_part("index.html"), mimetype="text/html")

    def _part(self, request: Request, name: str) -> Response:
        if name not in PAGE:
            raise NotFound("there is no such page")
        return Response(_part(name), mimetype=PAGE[name])

    def _counts(self) -> dict[str, object]:
        con = self._dataset.connect(tables=[t.DECISIONS, t.INPUTS, t.FORGOTTEN])
        counts = con.execute("SELECT unit, outcome, count(*) FROM decisions GROUP BY ALL ORDER BY ALL").fetchall()
        rules = con.execute(
            "SELECT unit, rule, count(*) FROM decisions WHERE outcome <> 'kept' AND rule IS NOT NULL "
            "GROUP BY ALL ORDER BY 3 DESC, 2"
        ).fetchall()
        ((sources,),) = con.execute("SELECT count(DISTINCT source_id) FROM inputs").fetchall()
        ((gone,),) = con.execute("SELECT count(*) FROM forgotten").fetchall()
        return {"counts": counts, "left_out": rules, "sources": sources, "forgotten": gone}

    def _about(self, request: Request) -> Response:
        policy = self._policy()
        facts = {
            **self._counts(),
            "name": self._dataset.store.uri.rstrip("/").rpartition("/")[2],
            "author": self._author,
            "policy": policy.name,
            "rules": [{"id": r.id, "on": r.on, "keep": r.keep, "why": r.why} for r in policy.rules],
            "columns": {kind: {n: c.doc for n, c in columns(kind).items()} for kind in UNITS},
            "states": t.LABEL_STATES,
            "aspects": ASPECTS,
            "sounds": list(TRACKS),
            "tunable": tunable(policy),
            "fields": fields(),
            "waiting": waiting(self._dataset),
            "uri": self._dataset.store.uri,
        }
        return _json(facts)

    def _units(self, request: Request) -> Response:
        asked = {k: v for k, v in request.args.items() if k != "author"}
        ask, who = parse(asked), self._who(request)
        found = drawn(self._dataset, ask, self._policy(), who)
        rows = described(self._dataset, ask.unit, found.ids, found.strata, who, self._policy())
        return _json({"rows": [r.model_dump() for r in rows], "total": found.total, "sizes": found.sizes})

    def _unit(self, request: Request, unit_id: str) -> Response:
        at_s = request.args.get("at", type=float)
        return _json(watch(self._dataset, unit_id, self._policy(), self._who(request), at_s))

    def _stretch(self, request: Request) -> Response:
        start_s, end_s = (request.args.get(x, type=float) for x in ("from", "to"))
        if start_s is None or end_s is None:
            raise NotThereError("a stretch is named by source, from and to")
        source = request.args.get("source", "")
        return _playable(self.media.stretch(source, start_s, end_s, "webm" if _webm(request) else "mp4"))

    def _clip(self, request: Request) -> Response:
        sound = request.args.get("sound", "both")
        return _playable(self.media.clip(request.args.get("id", ""), sound, "webm" if _webm(request) else "mp4"))

    def _media(self, request: Request, name: str) -> Response:
        path = self.media.file(name)
        if path is None or not path.is_file():
            raise NotFound("this stretch is not kept any more; open the clip again")
        kind = "video/webm" if path.suffix == ".webm" else "video/mp4"
        answer = send_file(path, request.environ, mimetype=kind, conditional=True, max_age=3600)
        answer.headers["Cache-Control"] = "private, max-age=3600"
        return answer

    def _portrait(self, request: Request, track_id: str, k: int) -> Response:
        try:
            return _picture(self.media.portrait(track_id, k))
        except NotThereError:  # rows of a list show it where there is one, and browsers count a 404 as an error
            return Response(status=204)

    def _reference(self, request: Request, segment_id: str, kind: str, n: int) -> Response:
        return _picture(self.media.reference(segment_id, kind, n))

    def _precision(self, request: Request) -> Response:
        return _json(_numbers(audit(self._dataset, self._policy())))

    def _judge(self, request: Request) -> Response:
        asked = _said(request)
        texts = {k: v for k, v in asked.items() if isinstance(v, str)} if isinstance(asked, dict) else {}
        what = asked.get("what") if isinstance(asked, dict) else None
        said = Said(
            texts.get("verdict", ""), [str(x) for x in what] if isinstance(what, list) else [],
            texts.get("true_state") or None, texts.get("comment", "").strip()[:2000] or None,
        )  # fmt: skip
        kind = next((k for k in UNITS if k == texts.get("unit")), None)
        if kind is None:
            raise AuditError(f"no kind of unit is called {texts.get('unit')!r}")
        author, drawn_in = texts.get("author", self._author), texts.get("drawn") or None
        return _json({"audit": dict(judge(self._dataset, kind, texts.get("id", ""), said, author, drawn_in))})

    def _chosen(self, request: Request) -> tuple[Policy, Chosen, float]:
        """Return the rule, its threshold, and the value that is asked for, the present one by default."""
        policy = self._policy()
        rule = next((r for r in policy.rules if r.id == request.args.get("rule")), None)
        n = request.args.get("n", default=0, type=int)
        if rule is None or not 0 <= n < len(thresholds_of(rule)):
            raise PolicyError(f"the policy in force has no threshold {n} of a rule {request.args.get('rule')!r}")
        chosen = Chosen(rule, n)
        value = request.args.get("value", type=float)
        return policy, chosen, chosen.threshold.value if value is None else value

    def _tune(self, request: Request) -> Response:
        policy, chosen, value = self._chosen(request)
        low, high = (request.args.get(x, type=float) for x in ("low", "high"))
        found = self._tuner.move(policy, chosen, value, low, high, request.args.get("fresh") == "1")
        sides: dict[str, object] = {}
        for side in ("enters", "leaves"):
            if request.args.get("listed") != "1":  # a moment's more work, for when the threshold rests
                sides[side] = None
                continue
            ids: list[str] = found[side]
            rows = described(self._dataset, chosen.rule.on, ids, [""] * len(ids), self._who(request), policy)
            sides[side] = [r.model_dump() for r in rows]
        return _json({**found, **sides})

    def _policy_file(self, request: Request) -> Response:
        policy, chosen, value = self._chosen(request)
        text = policy_text(policy, moved(chosen.rule, chosen.n, value), self._policy_text)
        name = f"{policy.name}-{chosen.rule.id}.yaml"
        return Response(
            text, mimetype="application/yaml", headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    def _correct(self, request: Request) -> Response:
        correct(self._dataset, _said(request), self._author)
        return _json({"waiting": waiting(self._dataset)})

    def _uncorrect(self, request: Request) -> Response:
        asked = _said(request)
        author = asked.get("author") if isinstance(asked, dict) else None
        gone = uncorrect(self._dataset, str(author or self._author))
        return _json({"gone": asdict(gone), "waiting": waiting(self._dataset)})

    def _people(self, request: Request) -> Response:
        return _json(people(self._dataset, request.args.get("with", "")))

    def _undo(self, request: Request) -> Response:
        asked = _said(request)
        author = asked.get("author") if isinstance(asked, dict) else None
        return _json({"audit": dict(undo(self._dataset, str(author or self._author)))})


def _numbers(found: Audit) -> dict[str, object]:
    return {
        "precisions": [
            {
                "name": p.name, "kind": p.subject[0], "right": p.right, "judged": p.judged, "unsure": p.unsure,
                "of": p.population, "share": p.share, "interval": p.interval, "lost": p.lost, "bound": p.bound,
                "holds": p.holds,
            }
            for p in found.precisions
        ],
        "agreements": [asdict(a) for a in found.agreements], "readers": found.readers, "adrift": found.adrift,
    }  # fmt: skip


def _said(request: Request) -> Any:
    """Return the JSON of a request. Raises AuditError where it holds what cannot be stored, or is too deep."""
    try:
        asked = request.get_json()
        json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise AuditError("half of a character is in what was sent; type it again") from e
    except RecursionError as e:
        raise AuditError("what was sent is nested too deep to be read") from e
    return asked


def _webm(request: Request) -> bool:
    return request.args.get("form") == "webm"


def _playable(made: Playable) -> Response:
    return _json({"url": f"/media/{made.name}", "start_s": made.start_s, "copied": made.copied})


def _picture(data: bytes) -> Response:
    return Response(data, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _part(name: str) -> bytes:
    return (resources.files("curation.review") / "page" / name).read_bytes()


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False, allow_nan=False), status, mimetype="application/json")
