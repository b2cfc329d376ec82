#!/usr/bin/env python3
"""usage: python_binding.py FOLDER_OF_LIBINFER_PY MODEL TEXT: uses libinfer.py as a program would; TEXT: 40 greedy tokens after "Once upon a time"."""
import gc
import math
import os
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
import libinfer  # noqa: E402

PATH, TEXT, PROMPT = sys.argv[2], sys.argv[3], "Once upon a time"


def refused(status, function, *arguments, **options):
    try:
        result = function(*arguments, **options)
        list(result)  # generators start with their first value
    except libinfer.Error as e:
        assert e.status == status and str(e), (e.status, str(e))
        return
    raise AssertionError(f"{function} took {arguments} {options}")


assert libinfer.version() == "0.1.0" and libinfer.cpu_levels()[0] == "ref", libinfer.cpu_levels()
refused("IO", libinfer.Model, "/absent.infer")
refused("FORMAT", libinfer.Model, b"no model")
refused("ARGUMENT", libinfer.Runtime, cpu_level="sse9")

with libinfer.Runtime(threads=2) as runtime, libinfer.Model(PATH, runtime) as model:
    ids = model.tokenize(PROMPT)
    assert model.detokenize(ids) == PROMPT and model.vocab_size == 512 and '"llama"' in model.metadata, model.metadata
    refused("ARGUMENT", model.detokenize, [512])
    assert len(model.tokenize(PROMPT * 100)) > 100
    assert model.tokenize_chat([("user", "Hello")], "llama2")
    refused("UNSUPPORTED", model.tokenize_chat, [("user", "Hello")])

    with model.session() as session:
        logits = session.eval(ids)
        best = max(range(len(logits)), key=logits.__getitem__)
        assert len(logits) == 512 and session.position == len(ids)
        total = math.log(sum(math.exp(x - logits[best]) for x in logits))
        assert abs(session.logprob(best) + total) < 1e-9 and math.isnan(session.logprob(512))

        with session.fork() as fork:
            state = session.save()
            assert fork.eval([best]) == session.eval([best])
            fork.restore(state)
            session.rewind(len(ids))
            assert fork.position == len(ids) and fork.eval([best]) == session.eval([best])
            refused("FORMAT", fork.restore, b"x" * 10)
            refused("CORRUPT", fork.restore, state[:-1] + bytes([state[-1] ^ 1]))
            with tempfile.TemporaryDirectory() as folder:
                session.save_file(os.path.join(folder, "state"))
                fork.restore_file(os.path.join(folder, "state"))
                refused("IO", fork.restore_file, os.path.join(folder, "absent"))
            assert fork.save() == session.save()

        session.rewind(0)
        assert "".join(session.generate(PROMPT, max_tokens=40)) == TEXT
        session.rewind(0)
        sampled = ["".join(session.generate(PROMPT, max_tokens=40, temperature=1.0, seed=s)) for s in (1, 2, 1) if session.rewind(0) is None]
        assert sampled[0] == sampled[2] != sampled[1], sampled
        session.rewind(0)
        for count, token in enumerate(session.tokens(ids)):
            if count == 5:
                break  # ends the generation
        gc.collect()
        refused("ARGUMENT", session.rewind, 4000)
        session.rewind(0)
        refused("ARGUMENT", session.tokens, [])
        refused("CONTEXT", session.tokens, ids * 1000)
        vector = session.embed(ids)
        assert len(vector) == model.dim and any(vector)

    with model.session(context=len(ids) + 5) as small:
        told = []
        refused("CONTEXT", lambda: map(told.append, small.tokens(ids, max_tokens=7)))
        assert len(told) == 6 and model.detokenize(told) in TEXT, told  # those that fit came before the error; the last one is not evaluated
    closed_early = model.session()
    generation = closed_early.tokens(ids)
    next(generation)
    closed_early.close()
    generation.close()

with open(PATH, "rb") as f, libinfer.Model(f.read(), threads=1, cpu_level="ref") as model, model.session(kv="f32", context=64) as session:
    assert model.runtime.cpu_level == "ref" and session.context == 64
    assert next(session.tokens(PROMPT)) == best
for use in (lambda: session.position, lambda: model.session(), lambda: session.eval(ids)):
    try:
        use()
        raise AssertionError("it was closed")
    except ValueError:
        pass
print("ok")
