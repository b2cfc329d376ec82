#!/usr/bin/env python3
"""tokenizer.json: infer-tokenize against an implementation of what Hugging Face's tokenizers (normalizers/, pre_tokenizers/, models/,
processors/, added_vocabulary.rs) do, written for this test, over generated files and texts. Reports in TAP.

usage: test_tokenizer_json.py --tools FOLDER [--rounds N] [--seed S]
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

from importing import check, finish

META = "\u2581"
SEPARATOR = "<|next|>"  # between the texts of one run: a token that no file looks for elsewhere

# ---- characters (Unicode as the tokenizers see it) ----

WHITE = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}


def category(c):
    return unicodedata.category(c)


def is_word(c):
    return category(c) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc") or c in "\u200c\u200d"


def is_punctuation(c):
    return ("!" <= c <= "/") or (":" <= c <= "@") or ("[" <= c <= "`") or ("{" <= c <= "~") or category(c)[0] == "P"


def is_chinese(c):
    return any(a <= ord(c) <= b for a, b in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
                                             (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)))


def byte_alphabet():
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(0x100 + i) for i, b in enumerate(rest)}}


ALPHABET = byte_alphabet()


class Text:
    """A text, and for each character where in the original it begins, so that "first" can be told."""

    def __init__(self, characters, places):
        self.s, self.at = characters, places

    @classmethod
    def of(cls, s):
        return cls(s, list(range(len(s))))

    def cut(self, a, b):
        return Text(self.s[a:b], self.at[a:b])

    def filter(self, keep):
        pairs = [(c, p) for c, p in zip(self.s, self.at) if keep(c)]
        self.s, self.at = "".join(c for c, _ in pairs), [p for _, p in pairs]

    def expand(self, f):
        parts = [(f(c), p) for c, p in zip(self.s, self.at)]
        self.s, self.at = "".join(t for t, _ in parts), [p for t, p in parts for _ in t]

    def form(self, name):
        """By stretches that begin with a character that nothing before it can change."""
        s, at, start = "", [], 0
        for i in range(1, len(self.s) + 1):
            if i == len(self.s) or ord(self.s[i]) < 0x80:
                made = unicodedata.normalize(name, self.s[start:i])
                s, at, start = s + made, at + [self.at[start]] * len(made), i
        self.s, self.at = s, at

    def replace(self, spans, content):
        s, at = "", []
        for a, b, match in spans:
            if match:
                s, at = s + content, at + [self.at[b - 1] if b else 0] * len(content)
            else:
                s, at = s + self.s[a:b], at + self.at[a:b]
        self.s, self.at = s, at

    def prepend(self, text):
        if self.s:
            self.s, self.at = text + self.s, [self.at[0]] * len(text) + self.at


# ---- spans: (start, end, match) over the whole text ----

def by_pattern(pattern, s):
    out, done = [], 0
    for m in pattern.finditer(s):
        if m.start() == m.end() == done and out and out[-1][2]:  # nothing, right behind a match
            continue
        if m.start() > done:
            out.append((done, m.start(), False))
        out.append((m.start(), m.end(), True))
        done = m.end()
    return out + [(done, len(s), False)] * (done < len(s))


def by_character(test, s):
    out = []
    for i, c in enumerate(s):
        if test(c):
            out.append((i, i + 1, True))
        elif out and not out[-1][2]:
            out[-1] = (out[-1][0], i + 1, False)
        else:
            out.append((i, i + 1, False))
    return out


def split(text, spans, behavior):
    if behavior == "Removed":
        spans = [x for x in spans if not x[2]]
    elif behavior == "Contiguous":
        joined, previous = [], False
        for a, b, match in spans:
            if match == previous and joined:
                joined[-1] = (joined[-1][0], b)
            else:
                joined.append((a, b))
            previous = match
        spans = joined
    elif behavior == "MergedWithPrevious":
        joined, previous = [], False
        for a, b, match in spans:
            if match and not previous and joined:
                joined[-1] = (joined[-1][0], b)
            else:
                joined.append((a, b))
            previous = match
        spans = joined
    elif behavior == "MergedWithNext":
        joined, previous = [], False
        for a, b, match in reversed(spans):
            if match and not previous and joined:
                joined[-1] = (a, joined[-1][1])
            else:
                joined.append((a, b))
            previous = match
        spans = reversed(joined)
    return [text.cut(x[0], x[1]) for x in spans if x[0] < x[1]]


# ---- patterns: the test's own, each for Hugging Face and for Python ----

PATTERNS = {r"\s+": "[%s]+" % re.escape("".join(sorted(WHITE))), r"[0-9]{2}": "[0-9]{2}", r"a+|b": "a+|b", r" {2,}": " {2,}",
            r"(?i:'s|'t)": "'[sStT]",
            r"[A-Za-z]+|[0-9]| ": "[A-Za-z]+|[0-9]| ", r"^a": "(?m:^)a", r"b$": "b(?m:$)", r"(?=a)": "(?=a)", r"[a-c[x-z]]": "[a-cx-z]",
                r"\d": r"\d",
            r"a{1,2}+": "(?:a{1,2})+", r"[^\n]": "[^\n]", r"x*": "x*"}

def gpt2_spans(s):
    """GPT-2's pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+."""
    kind = ["s" if c in WHITE else category(c)[0] if category(c)[0] in "LN" else "o" for c in s]
    out, i = [], 0
    while i < len(s):
        short = next((x for x in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if s.startswith(x, i)), None)
        start = i + (s[i] == " " and i + 1 < len(s) and kind[i + 1] != "s")
        if short:
            end = i + len(short)
        elif kind[start] != "s":
            end = start
            while end < len(s) and kind[end] == kind[start]:
                end += 1
        else:
            end = i
            while end < len(s) and kind[end] == "s":
                end += 1
            end -= end < len(s) and end - i > 1
        out.append((i, end, True))
        i = end
    return out


# ---- normalizers and pre-tokenizers ----

def normalize(step, t):
    kind = step["type"]
    if kind == "Sequence":
        for one in step["normalizers"]:
            normalize(one, t)
    elif kind in ("NFC", "NFD", "NFKC", "NFKD"):
        t.form(kind)
    elif kind == "Lowercase":
        t.expand(lambda c: c.lower() if c != "\u03a3" else "\u03c3")
    elif kind == "StripAccents":
        t.filter(lambda c: category(c)[0] != "M")
    elif kind == "Strip":
        a, b = 0, len(t.s)
        while step["strip_left"] and a < b and t.s[a] in WHITE:
            a += 1
        while step["strip_right"] and b > a and t.s[b - 1] in WHITE:
            b -= 1
        t.s, t.at = t.s[a:b], t.at[a:b]
    elif kind == "Prepend":
        t.prepend(step["prepend"])
    elif kind == "Replace":
        pattern = step["pattern"]
        t.replace(by_pattern(re.compile(re.escape(pattern["String"]) if "String" in pattern else PATTERNS[pattern["Regex"]]), t.s),
            step["content"])
    elif kind == "Nmt":
        t.filter(lambda c: not (1 <= ord(c) <= 8 or ord(c) == 0xB or 0xE <= ord(c) <= 0x1F or ord(c) in (0x7F, 0x8F, 0x9F)))
        t.expand(lambda c: " " if c in "\t\n\f\r\u1680\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2581\ufeff\ufffd" else c)
    elif kind == "ByteLevel":
        t.expand(lambda c: "".join(ALPHABET[b] for b in c.encode()))
    elif kind == "BertNormalizer":
        if step["clean_text"]:
            t.filter(lambda c: c in "\t\n\r" or not (c in "\0\ufffd" or category(c) in ("Cc", "Cf", "Co")))
            t.expand(lambda c: " " if c in WHITE else c)
        if step["handle_chinese_chars"]:
            t.expand(lambda c: f" {c} " if is_chinese(c) else c)
        if step["lowercase"] if step["strip_accents"] is None else step["strip_accents"]:
            t.form("NFD")
            t.filter(lambda c: category(c) != "Mn")
        if step["lowercase"]:
            normalize({"type": "Lowercase"}, t)
    else:
        raise ValueError(kind)


def pretokenize(step, pieces):
    kind = step["type"]
    if kind == "Sequence":
        for one in step["pretokenizers"]:
            pieces = pretokenize(one, pieces)
        return pieces
    out = []
    for t in pieces:
        if kind == "ByteLevel":
            if step["add_prefix_space"] and not t.s.startswith(" "):
                t.prepend(" ")
            cut = split(t, gpt2_spans(t.s), "Isolated") if step["use_regex"] else [t]
            for x in cut:
                normalize({"type": "ByteLevel"}, x)
        elif kind == "Metaspace":
            mark = step["replacement"]
            t.expand(lambda c: mark if c == " " else c)
            if not t.s.startswith(mark) and (step["prepend_scheme"] == "always" or (step["prepend_scheme"] == "first" and t.at[:1] == [0])):
                t.prepend(mark)
            cut = split(t, by_character(lambda c: c == mark, t.s), "MergedWithNext") if step["split"] else [t]
        elif kind == "Split":
            pattern = step["pattern"]
            spans = by_pattern(re.compile(re.escape(pattern["String"]) if "String" in pattern else PATTERNS[pattern["Regex"]]), t.s)
            cut = split(t, [(a, b, match != step["invert"]) for a, b, match in spans], step["behavior"])
        elif kind == "Whitespace":
            spans = by_character(is_word, t.s)
            spans = [y for a, b, match in spans for y in ([(a, b, "w")] if match else
                                                         [(a + c, a + d, "s" if m else "o") for c, d, m in by_character(WHITE.__contains__,
                                                             t.s[a:b])])]
            joined = []
            for a, b, k in spans:
                if joined and joined[-1][2] == k != "s":
                    joined[-1] = (joined[-1][0], b, k)
                else:
                    joined.append((a, b, k))
            cut = [t.cut(a, b) for a, b, k in joined if k != "s"]
        elif kind == "WhitespaceSplit":
            cut = split(t, by_character(WHITE.__contains__, t.s), "Removed")
        elif kind == "Punctuation":
            cut = split(t, by_character(is_punctuation, t.s), step["behavior"])
        elif kind == "Digits":
            cut = split(t, by_character(lambda c: category(c)[0] == "N", t.s), "Isolated" if step["individual_digits"] else "Contiguous")
        elif kind == "BertPreTokenizer":
            cut = [y for x in split(t, by_character(WHITE.__contains__, t.s), "Removed") for y in split(x, by_character(is_punctuation,
                x.s), "Isolated")]
        elif kind == "CharDelimiterSplit":
            cut = split(t, by_character(lambda c: c == step["delimiter"], t.s), "Removed")
        elif kind == "FixedLength":
            cut = [t.cut(i, i + step["length"]) for i in range(0, len(t.s), step["length"])]
        else:
            raise ValueError(kind)
        out += [x for x in cut if x.s]
    return out


# ---- models ----

def bpe(model, s):
    vocab = model["vocab"]
    if model["ignore_merges"] and s in vocab:
        return [vocab[s]]
    prefix, suffix = model["continuing_subword_prefix"] or "", model["end_of_word_suffix"] or ""
    symbols, unknown = [], False
    for i, c in enumerate(s):
        name = (prefix if i else "") + c + (suffix if i + 1 == len(s) else "")
        fallback = [vocab.get("<0x%02X>" % b) for b in name.encode()] if model["byte_fallback"] else [None]
        if name in vocab:
            symbols.append(vocab[name])
            unknown = False
        elif None not in fallback:
            symbols += fallback
        elif model["unk_token"] is not None:
            if not (unknown and model["fuse_unk"]):
                symbols.append(vocab[model["unk_token"]])
            unknown = True
    ranks = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        ranks[vocab[left], vocab[right]] = (rank, vocab[left + right[len(prefix):]])  # of a merge that stands twice, the last counts
    while True:
        best = min(((ranks[pair], i) for i, pair in enumerate(zip(symbols, symbols[1:])) if pair in ranks), default=None)
        if best is None:
            return symbols
        symbols[best[1]:best[1] + 2] = [best[0][1]]


def unigram(model, s):
    vocab = {text: (i, score) for i, (text, score) in reversed(list(enumerate(model["vocab"])))}
    worst = min(score for _, score in model["vocab"]) - 10
    best = [(0.0, None, None)] + [None] * len(s)
    for i in range(len(s)):
        single = False
        for j in range(i + 1, len(s) + 1):
            if s[i:j] in vocab:
                token, score = vocab[s[i:j]]
                single |= j == i + 1
                if best[j] is None or best[i][0] + score > best[j][0]:
                    best[j] = (best[i][0] + score, i, token)
        if not single and (best[i + 1] is None or best[i][0] + worst > best[i + 1][0]):
            best[i + 1] = (best[i][0] + worst, i, model["unk_id"])
    out, end = [], len(s)
    while end:
        _, start, token = best[end]
        if token == model["unk_id"] and out and out[-1][0] == token:
            out[-1] = (token, start, out[-1][2])
        else:
            out.append((token, start, end))
        end = start
    ids = []
    for token, start, end in reversed(out):
        fallback = [vocab.get("<0x%02X>" % b, (None,))[0] for b in s[start:end].encode()] if model["byte_fallback"] else [None]
        ids += fallback if token == model["unk_id"] and None not in fallback else [token]
    return ids


def wordpiece(model, s):
    vocab, unk = model["vocab"], model["unk_token"]
    if len(s) > model["max_input_chars_per_word"]:
        return [vocab[unk]]
    ids, start = [], 0
    while start < len(s):
        for end in range(len(s), start, -1):
            name = (model["continuing_subword_prefix"] if start else "") + s[start:end]
            if name in vocab:
                break
        else:
            return [vocab[unk]]
        ids.append(vocab[name])
        start = end
    return ids


def wordlevel(model, s):
    return [model["vocab"].get(s, model["vocab"][model["unk_token"]])]


MODELS = {"BPE": bpe, "Unigram": unigram, "WordPiece": wordpiece, "WordLevel": wordlevel}


# ---- the whole ----

def find_added(t, names):
    """[(token or None, text)]; names: {text: token}. The leftmost, of those the longest."""
    out, done, i = [], 0, 0
    while i < len(t.s):
        name = max((x for x in names if x and t.s.startswith(x, i)), key=len, default=None)
        if name is None:
            i += 1
            continue
        token, start, end = names[name], i, i + len(name)
        i = end
        if token["single_word"] and ((start and is_word(t.s[start - 1])) or (end < len(t.s) and is_word(t.s[end]))):
            continue
        while token["lstrip"] and start > done and t.s[start - 1] in WHITE:
            start -= 1
        while token["rstrip"] and end < len(t.s) and t.s[end] in WHITE:
            end += 1
        out += [(None, t.cut(done, start))] + [(token, t.cut(start, end))]
        i = done = end
    return out + [(None, t.cut(done, len(t.s)))]


def encode(file, s):
    normalizer, pretokenizer, model = file["normalizer"], file["pre_tokenizer"], file["model"]
    plain, normalized = {}, {}
    for token in file["added_tokens"]:
        name = Text.of(token["content"])
        if token["normalized"] and normalizer:
            normalize(normalizer, name)
        (normalized if token["normalized"] else plain).setdefault(name.s, token)
    ids = []
    for token, t in find_added(Text.of(s), plain):
        if token:
            ids.append(token["id"])
            continue
        if normalizer:
            normalize(normalizer, t)
        for inner, x in find_added(t, normalized):
            if inner:
                ids.append(inner["id"])
            elif x.s:
                for piece in pretokenize(pretokenizer, [x]) if pretokenizer else [x]:
                    ids += MODELS[model["type"]](model, piece.s)
    before, behind = [], []
    if file["post_processor"]:
        for one in file["post_processor"]["single"]:
            if "Sequence" in one:
                before, behind = behind, []
            else:
                behind += file["post_processor"]["special_tokens"][one["SpecialToken"]["id"]]["ids"]
    return before + ids + behind


# ---- generated files ----

PARTS = ["a", "b", "c", "ab", "abc", "x", "y", "zz", "Hello", "world", "HELLO", "don't", "it's", " ", "  ", "   ", "\n", "\t", "\r\n", "1",
    "23", "456", ".", ",", "!",
         "?!", "-", "_", "(", ")", "é", "e\u0301", "É", "ö", "ß", "İ", "Σ", "ﬁ", "Å", "\u212b", "한", "\u1112\u1161\u11ab", "中", "文字", "あ",
             "\u3000", "\u00a0", "\u2028",
         "\u200b", "\u200d", "\ufeff", "\u00ad", "😀", "👍🏽", "ñ", "½", "٣", "²", "Ⅷ", "\u0b95\u0bcd", "\u0903", META, "\u0085", "\x0b",
             "\x0c", "\x07", "\x7f", "“", "”", "…",
         "<s>", "</s>", "<pad>", "[MASK]", "tok", "Tok", "ａｂ", "ẞ", "H\u0331", "豈", "Ġ", "'", "\""]


def some_text(r):
    return "".join(r.choice(PARTS) for _ in range(r.randrange(1, 14)))


def some_pattern(r):
    return {"Regex": r.choice(list(PATTERNS))} if r.random() < 0.6 else {"String": r.choice([" ", "a", "ab", ".", "  ", "é", META, "|",
        "\n"])}


def some_normalizer(r, depth=0):
    kind = r.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Prepend", "Replace", "Replace", "Nmt",
        "BertNormalizer", "Sequence",
                     "Sequence", "Llama", "ByteLevel"] if depth < 2 else ["NFC", "NFKD", "Lowercase", "Strip", "Prepend", "Replace"])
    if kind == "Llama":
        return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": META}, {"type": "Replace", "pattern": {"String": " "},
            "content": META}]}
    step = {"type": kind}
    if kind == "Sequence":
        step["normalizers"] = [some_normalizer(r, depth + 1) for _ in range(r.randrange(0, 4))]
    elif kind == "Strip":
        step.update(strip_left=r.random() < 0.5, strip_right=r.random() < 0.5)
    elif kind == "Prepend":
        step["prepend"] = r.choice([META, " ", "x", "ab"])
    elif kind == "Replace":
        step.update(pattern=some_pattern(r), content=r.choice(["", " ", META, "x", "ab", "é"]))
    elif kind == "BertNormalizer":
        step.update(clean_text=r.random() < 0.7, handle_chinese_chars=r.random() < 0.7, strip_accents=r.choice([None, True, False]),
            lowercase=r.random() < 0.6)
    return step


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def some_pretokenizer(r, depth=0):
    kinds = ["Split", "Split", "Metaspace", "Metaspace", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "BertPreTokenizer",
        "CharDelimiterSplit",
             "FixedLength", "ByteLevel"]
    kind = r.choice(kinds + ["Sequence"] * 4 * (depth < 2))
    step = {"type": kind}
    if kind == "Sequence":
        step["pretokenizers"] = [some_pretokenizer(r, depth + 1) for _ in range(r.randrange(1, 4))]
        for later in step["pretokenizers"][1 - depth:]:  # "first" is known of the first piece only
            if later.get("prepend_scheme") == "first":
                later["prepend_scheme"] = "always"
    elif kind == "Split":
        step.update(pattern=some_pattern(r), behavior=r.choice(BEHAVIORS), invert=r.random() < 0.3)
    elif kind == "Metaspace":
        step.update(replacement=META if r.random() < 0.8 else "x", prepend_scheme=r.choice(["first", "always", "never"]),
            split=r.random() < 0.6)
    elif kind == "Punctuation":
        step["behavior"] = r.choice(BEHAVIORS)
    elif kind == "Digits":
        step["individual_digits"] = r.random() < 0.5
    elif kind == "CharDelimiterSplit":
        step["delimiter"] = r.choice("a .é")
    elif kind == "FixedLength":
        step["length"] = r.randrange(1, 6)
    elif kind == "ByteLevel":
        step.update(add_prefix_space=r.random() < 0.5, trim_offsets=True, use_regex=r.random() < 0.5)
    return step


def pieces_of(file, texts):
    out = []
    for s in texts:
        t = Text.of(s)
        if file["normalizer"]:
            normalize(file["normalizer"], t)
        if t.s:
            out += [x.s for x in (pretokenize(file["pre_tokenizer"], [t]) if file["pre_tokenizer"] else [t])]
    return out


def some_model(r, kind, pieces, byte_level):
    """A model that knows some of the pieces, in parts."""
    pieces = [p for p in pieces if p] or ["a"]
    letters = sorted({c for p in pieces for c in p if r.random() < 0.9}) or ["a"]
    if kind == "WordLevel":
        return {"type": kind, "vocab": {t: i for i, t in enumerate(dict.fromkeys(["<unk>", *(p for p in pieces if r.random() < 0.6)]))},
            "unk_token": "<unk>"}
    if kind == "WordPiece":
        prefix = r.choice(["##", "##", "@@"])
        texts = ["[UNK]"] + [prefix * (r.random() < 0.5) + p[a:b] for p in pieces for a, b in [sorted(r.sample(range(len(p) + 1), 2))]]
        texts += [c for c in letters if r.random() < 0.8] + [prefix + c for c in letters if r.random() < 0.8]
        texts = [t for t in texts if not any(p.startswith(prefix) for p in pieces)] or ["[UNK]"]
        return {"type": kind, "unk_token": "[UNK]", "continuing_subword_prefix": prefix, "max_input_chars_per_word": r.choice([100, 100, 3,
            7, 200]),
                "vocab": {t: i for i, t in enumerate(dict.fromkeys(["[UNK]"] + texts))}}
    byte_tokens = ["<0x%02X>" % b for b in range(256)] * (r.random() < 0.3 and not byte_level)
    if kind == "Unigram":
        texts = dict.fromkeys(letters + [p[a:b] for p in pieces for a, b in [sorted(r.sample(range(len(p) + 1), 2))]])
        return {"type": kind, "unk_id": 0, "byte_fallback": bool(byte_tokens),
                "vocab": [["<unk>", 0.0]] + [[t, -r.randrange(1, 64) / 4] for t in texts if t != "<unk>"] + [[t,
                    -16.0] for t in byte_tokens if t not in texts]}
    prefix, suffix = (r.choice([(None, None)] * 4 + [("", "</w>"), ("##", None), ("##", "</w>")]) if not byte_tokens else (None, None))
    names = lambda p: [(prefix or "") * (i > 0) + c + (suffix or "") * (i + 1 == len(p)) for i, c in enumerate(p)]
    texts = dict.fromkeys(["<unk>"] + [n for p in pieces for n in names(p) if r.random() < 0.97])
    merges = []
    for _ in range(40):  # as training would
        p = [n for n in names(r.choice(pieces)) if n in texts]
        for left, right in merges:
            i = 0
            while i + 1 < len(p):
                if p[i] == left and p[i + 1] == right:
                    p[i:i + 2] = [left + right[len(prefix or ""):]]
                i += 1
        if len(p) > 1:
            i = r.randrange(len(p) - 1)
            if (p[i], p[i + 1]) not in merges and " " not in p[i] + p[i + 1]:
                merges.append((p[i], p[i + 1]))
                texts[p[i] + p[i + 1][len(prefix or ""):]] = None
    pairs = r.random() < 0.5
    return {"type": kind, "dropout": None, "unk_token": r.choice([None, "<unk>"]), "continuing_subword_prefix": prefix,
        "end_of_word_suffix": suffix,
            "fuse_unk": r.random() < 0.5, "byte_fallback": bool(byte_tokens), "ignore_merges": r.random() < 0.3,
            "vocab": {t: i for i, t in enumerate([*texts, *(b for b in byte_tokens if b not in texts)])},
            "merges": [list(m) if pairs else " ".join(m) for m in merges]}


def some_file(r, texts):
    """None where the parts do not go together."""
    file = {"version": "1.0", "added_tokens": [], "normalizer": r.choice([None, some_normalizer(r), some_normalizer(r)]),
            "pre_tokenizer": r.choice([None, some_pretokenizer(r), some_pretokenizer(r), some_pretokenizer(r)]), "post_processor": None,
                "decoder": None}
    kind = r.choice(["BPE", "BPE", "Unigram", "WordPiece", "WordLevel"])
    byte_level = '"ByteLevel"' in json.dumps(file)
    file["model"] = some_model(r, "BPE" if byte_level else kind, pieces_of(file, texts), byte_level)
    vocab = file["model"]["vocab"]
    known = {t: i for i, t in enumerate(t for t, _ in vocab)} if isinstance(vocab, list) else vocab
    special = file["model"].get("unk_token") or ("<unk>" if isinstance(vocab, list) else None)
    count = len(known)
    for name in [special] * bool(special) + r.sample(["<s>", "</s>", "<pad>", "[MASK]", "tok", "Tok", "ab", "é"], r.randrange(0, 5)):
        if name in known and name != special:
            continue
        flags = [r.random() < 0.3 for _ in range(4)] if name != special else [False] * 4
        file["added_tokens"].append({"id": known.get(name, count), "content": name, "single_word": flags[0], "lstrip": flags[1],
            "rstrip": flags[2],
                                     "normalized": flags[3], "special": r.random() < 0.5})
        count += name not in known
    if r.random() < 0.4 and file["added_tokens"]:
        names = [r.choice(file["added_tokens"]) for _ in range(r.randrange(1, 4))]
        at = r.randrange(len(names) + 1)
        pieces = [{"SpecialToken": {"id": t["content"], "type_id": 0}} for t in names]
        file["post_processor"] = {"type": "TemplateProcessing", "single": pieces[:at] + [{"Sequence": {"id": "A",
            "type_id": 0}}] + pieces[at:], "pair": [],
                                  "special_tokens": {t["content"]: {"id": t["content"], "ids": [t["id"]],
                                      "tokens": [t["content"]]} for t in names}}
    return file


def tokenize(tools, path, text):
    done = subprocess.run([tools / "infer-tokenize", path, "--special"], input=text.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return [int(x) for x in done.stdout.split()]


def compare(tools, folder, seed):
    r = random.Random(seed)
    texts = [some_text(r) for _ in range(12)]
    file = some_file(r, texts)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(file))
    for text in texts:
        found, expected = tokenize(tools, path, text), encode(file, text)
        assert found == expected, f"seed {seed}: {text!r}: found {found}, expected {expected}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for first in range(args.seed, args.seed + args.rounds, 20):
            def some():
                for seed in range(first, min(first + 20, args.seed + args.rounds)):
                    compare(args.tools, pathlib.Path(name), seed)
            check(f"seeds from {first}", some)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
