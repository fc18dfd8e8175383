"""Croissant metadata (ML Commons, 1.0) of a packed dataset, with the fields of its responsible-AI extension.

Written as JSON-LD: the manifest's columns are the fields of a record set, the shards a set of files. Costs a read of
the manifest for its hash.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.dataset import Dataset
from curation.publish.figures import Figures
from curation.storage import digests
from curation.storage.store import table_file
from schemas.tables import MANIFEST

FILE = "croissant.json"
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS}, "conformsTo": "dct:conformsTo",
}  # fmt: skip
VERSION = "http://mlcommons.org/croissant/1.0"
RAI_VERSION = "http://mlcommons.org/croissant/RAI/1.0"
_KINDS = {
    pa.string(): "sc:Text", pa.float32(): "sc:Float", pa.float64(): "sc:Float", pa.int32(): "sc:Integer",
    pa.int64(): "sc:Integer", pa.bool_(): "sc:Boolean",
}  # fmt: skip


def metadata(dataset: Dataset, f: Figures, name: str, url: str, published: str) -> dict[str, Any]:
    """Return the JSON-LD document.

    Args:
        dataset: the dataset.
        f: its numbers.
        name: what it is called.
        url: where it is or will be published.
        published: the date, YYYY-MM-DD.
    """
    manifest = table_file(MANIFEST)
    return {
        "@context": CONTEXT, "@type": "sc:Dataset", "conformsTo": [VERSION, RAI_VERSION], "name": name,
        "description": (
            f"{f.samples} clips ({f.hours:.2f} hours) of {f.people} people who speak, listen or are silent in a "
            "conversation: the person's picture, what they say, what they hear, references and measurements."
        ),
        "license": f.licences, "url": url, "version": "1.0.0", "datePublished": published,
        "citeAs": f"{name}, made with OpenLPM",
        "creator": [{"@type": "sc:Organization", "name": holder} for holder in _holders(f)],
        **({"inLanguage": f.languages} if f.languages else {}),
        "keywords": ["conversation", "speaking", "listening", "talking head", "video"],
        **_responsible(f),
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": "manifest", "name": manifest, "contentUrl": manifest,
                "encodingFormat": "application/x-parquet", "sha256": digests.sha256(dataset.store, manifest),
            },
            {
                "@type": "cr:FileObject", "@id": "folder", "name": "folder", "description": "the dataset's folder",
                "contentUrl": url, "encodingFormat": "git+https",
                "sha256": "https://github.com/mlcommons/croissant/issues/80",  # what stands there for a folder
            },
            {
                "@type": "cr:FileSet", "@id": "shards", "name": "shards", "containedIn": {"@id": "folder"},
                "description": "WebDataset tars", "encodingFormat": "application/x-tar", "includes": "shards/*.tar",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet", "@id": "samples", "name": "samples", "description": "one record a sample",
                "key": {"@id": f"samples/{MANIFEST.key[0]}"}, "field": list(_fields()),
            }
        ],
    }  # fmt: skip


def _holders(f: Figures) -> list[str]:
    return sorted({str(r[2]) for r in f.rights if r[2]}) or ["unknown"]


def _fields() -> list[dict[str, Any]]:
    out = []
    for c in MANIFEST.columns:
        column: Any = c.type
        several = pa.types.is_list(column)
        kind = _KINDS.get(column.value_type if several else column)
        if kind is not None:  # a list of structures, as members are, has no form of its own
            out.append({
                "@type": "cr:Field", "@id": f"samples/{c.name}", "name": c.name, "dataType": kind,
                "description": f"{c.doc} [{c.unit}]" if c.unit else c.doc, **({"repeated": True} if several else {}),
                "source": {"fileObject": {"@id": "manifest"}, "extract": {"column": c.name}},
            })  # fmt: skip
    return out


def _responsible(f: Figures) -> dict[str, Any]:
    """Return the responsible-AI fields, each from what was counted."""
    kept = {str(o): n for o, n, _ in f.outcomes}
    judged = [
        f"{p.name}: {p.right} of {p.judged} right (95 % interval {p.interval[0]:.2f}-{p.interval[1]:.2f})"
        for p in f.precisions
    ]
    tools = [f"{stage}: {', '.join(names) or 'rules'}" for stage, names in f.annotators.items()]
    lacking = [f"{what}: {n} of {f.samples} samples" for what, n in f.limits if n]
    return {
        "rai:dataCollection": f"Cut from {f.sources} recordings of conversations; each sample names its recording.",
        "rai:dataCollectionType": ["Secondary data analysis"],
        "rai:dataCollectionRawData": "Conversation video with sound; the recordings are not part of the dataset.",
        "rai:dataCollectionMissingData": "; ".join(lacking) or "none counted",
        "rai:dataPreprocessingProtocol": [
            "Cropped to one person, 25 frames a second; sound in two tracks: what the person says, what they hear.",
            f"Of all stretches of a person: {', '.join(f'{n} {o}' for o, n in kept.items())}; each with its reason.",
        ],
        "rai:dataAnnotationProtocol": "States, words, captions and references are measured; people may correct them.",
        "rai:machineAnnotationTools": tools,
        "rai:dataAnnotationAnalysis": judged or ["No sample of the labels has been judged by people."],
        "rai:dataBiases": [
            f"Languages: {', '.join(f.languages) or 'none known'}. People: {f.people}.",
            "Faces that are small, turned away or covered are left out, so such moments are rarer than in life.",
        ],
        "rai:dataLimitations": lacking,
        "rai:dataUseCases": ["Training and judging models of how one person speaks and listens in a conversation."],
        "rai:dataSocialImpact": "Such models can imitate people; imitation without consent is not an intended use.",
        "rai:personalSensitiveInformation": ["Faces and voices of people; words that they said."],
        "rai:dataReleaseMaintenancePlan": "Recordings and people can be taken out; the samples are then made again.",
    }  # fmt: skip
