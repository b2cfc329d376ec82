"""libinfer from Python: one file on ctypes, no compiler needed.

    import libinfer

    with libinfer.Model("stories.infer", threads=2) as model, model.session() as session:
        for text in session.generate("Once upon a time", max_tokens=100, temperature=0.8, seed=1):
            print(text, end="", flush=True)

The shared library is the one that the environment variable LIBINFER names, else the system's. Failures raise libinfer.Error. Close what was
opened, or use `with`; a session is used by one thread at a time, a model by any number.
"""
import ctypes as c
import os
import select

STATUSES = ("OK", "ARGUMENT", "MEMORY", "IO", "FORMAT", "CORRUPT", "UNSUPPORTED", "CONTEXT", "CANCELLED")
KV = {"auto": 0, "f16": 1, "f32": 2, "q8": 3}
ROLES = {"system": 0, "user": 1, "assistant": 2}


class Error(Exception):
    """A status of the library, and its message."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = STATUSES[status] if 0 <= status < len(STATUSES) else str(status)


class _Err(c.Structure):
    _fields_ = [("status", c.c_int), ("message", c.c_char * 500)]


class _Options(c.Structure):
    """Of each kind: `size` first."""

    def __init__(self, **values):
        super().__init__(size=c.sizeof(type(self)), **values)


class _RuntimeOptions(_Options):
    _fields_ = [("size", c.c_size_t), ("threads", c.c_uint32), ("cpu_level", c.c_char_p), ("allocator", c.c_void_p * 3),
                ("log", c.c_void_p), ("log_user", c.c_void_p)]


class _ModelOptions(_Options):
    _fields_ = [("size", c.c_size_t), ("verify", c.c_int), ("load", c.c_int)]


class _SessionOptions(_Options):
    _fields_ = [("size", c.c_size_t), ("context", c.c_uint32), ("batch", c.c_uint32), ("logit_rows", c.c_uint32), ("kv_type", c.c_int),
                ("profile", c.c_int)]


class _SamplerOptions(_Options):
    _fields_ = [("size", c.c_size_t), ("temperature", c.c_float), ("top_k", c.c_uint32), ("top_p", c.c_float), ("min_p", c.c_float),
                ("repeat_penalty", c.c_float), ("repeat_last", c.c_uint32), ("seed", c.c_uint64)]


class _GenerateOptions(_Options):
    _fields_ = [("size", c.c_size_t), ("sampler", c.c_void_p), ("max_tokens", c.c_uint32), ("end", c.c_int32)]


class _Message(c.Structure):
    _fields_ = [("role", c.c_int), ("text", c.c_char_p), ("bytes", c.c_size_t)]


_P, _N, _S, _OUT = c.c_void_p, c.c_size_t, c.c_char_p, c.POINTER(c.c_void_p)
_IDS, _COUNT, _ERR = c.POINTER(c.c_int32), c.POINTER(c.c_size_t), c.POINTER(_Err)
# name: (result, arguments); result _ERR: a status, with an infer_error as last argument.
_FUNCTIONS = {
    "version": (_S, []), "cpu_level_available": (_S, [_N]), "logprob": (c.c_double, [_P, _N, c.c_int32]),
    "runtime_create": (_ERR, [_P, _OUT]), "runtime_destroy": (None, [_P]), "runtime_cpu_level": (_S, [_P]),
    "runtime_threads": (c.c_uint32, [_P]),
    "model_open": (_ERR, [_P, _S, _P, _OUT]), "model_open_memory": (_ERR, [_P, _S, _N, _P, _OUT]), "model_close": (None, [_P]),
    "model_vocab_size": (c.c_uint32, [_P]), "model_context_length": (c.c_uint32, [_P]), "model_parameters": (c.c_uint64, [_P]),
    "model_metadata": (_S, [_P]), "model_token_is_end": (c.c_int, [_P, c.c_int32]), "model_dim": (c.c_uint32, [_P]),
    "model_tokenize": (_ERR, [_P, _S, _N, c.c_uint, _IDS, _N, _COUNT]), "model_detokenize": (_ERR, [_P, _IDS, _N, _P, _N, _COUNT]),
    "model_tokenize_chat": (_ERR, [_P, _S, c.POINTER(_Message), _N, _IDS, _N, _COUNT]), "model_chat_end": (c.c_int32, [_P, _S]),
    "session_create": (_ERR, [_P, _P, _OUT]), "session_destroy": (None, [_P]), "session_eval": (_ERR, [_P, _IDS, _N, c.c_int]),
    "session_logits": (c.POINTER(c.c_float), [_P, _N]), "session_position": (c.c_uint32, [_P]), "session_context": (c.c_uint32, [_P]),
    "session_rewind": (_ERR, [_P, c.c_uint32]), "session_cancel": (None, [_P]), "session_fork": (_ERR, [_P, _OUT]),
    "session_state_bytes": (_N, [_P]), "session_save": (_ERR, [_P, _P, _N]), "session_restore": (_ERR, [_P, _S, _N]),
    "session_save_file": (_ERR, [_P, _S]), "session_restore_file": (_ERR, [_P, _S]),
    "session_embed": (_ERR, [_P, _IDS, _N, c.c_int, c.POINTER(c.c_float)]), "session_start": (_ERR, [_P, _IDS, _N, _P]),
    "session_fd": (c.c_int, [_P]),
    "session_poll": (_ERR, [_P, _IDS, _N, _COUNT, c.POINTER(c.c_int)]),
    "sampler_create": (_ERR, [_P, _P, _OUT]), "sampler_destroy": (None, [_P]),
    "decoder_create": (_ERR, [_P, _OUT]), "decoder_destroy": (None, [_P]),
    "decoder_push": (c.c_int, [_P, c.c_int32, c.POINTER(c.c_char_p), _COUNT]),
}
_loaded = None


class _Library:
    """The functions above, by their names without infer_; those with a status raise Error."""

    def __init__(self):
        dll = c.CDLL(os.environ.get("LIBINFER") or "libinfer.so.0")
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(dll, "infer_" + name)
            fallible = result is _ERR
            function.restype = c.c_int if fallible else result
            function.argtypes = arguments + [_ERR] if fallible else arguments
            setattr(self, name, self._checked(function) if fallible else function)

    @staticmethod
    def _checked(function):
        def call(*arguments):
            err = _Err()
            status = function(*arguments, c.byref(err))
            if status:
                raise Error(status, err.message.decode("utf-8", "replace"))
        return call

    def make(self, function, *arguments):
        out = c.c_void_p()
        function(*arguments, c.byref(out))
        return out


def _lib():
    global _loaded
    if _loaded is None:
        _loaded = _Library()
    return _loaded


def _array(ids):
    ids = list(ids)
    return (c.c_int32 * len(ids))(*ids), len(ids)


def _counted(function, element, guess):
    """Calls function(array, room, count) again with more room when it asks for it."""
    count = c.c_size_t()
    for room in guess, None:
        room = count.value if room is None else room
        out = (element * max(room, 1))()
        try:
            function(out, room, c.byref(count))
            return out[: count.value]
        except Error as e:
            if room is None or e.status != "ARGUMENT" or count.value <= room:
                raise
    raise AssertionError("unreachable")


def version():
    return _lib().version().decode()


def cpu_levels():
    """The levels that this CPU has, the lowest first."""
    names = []
    while (name := _lib().cpu_level_available(len(names))) is not None:
        names.append(name.decode())
    return names


class _Handle:
    _destroy = ""
    _pointer = None

    @property
    def _handle(self):
        if not self._pointer:
            raise ValueError(f"this {type(self).__name__} was closed")
        return self._pointer

    def close(self):
        if self._pointer:
            getattr(_lib(), self._destroy)(self._pointer)
            self._pointer = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()


class Runtime(_Handle):
    """A pool of threads at a CPU level."""
    _destroy = "runtime_destroy"

    def __init__(self, threads=0, cpu_level=None):
        options = _RuntimeOptions(threads=threads, cpu_level=cpu_level and cpu_level.encode())
        self._pointer = _lib().make(_lib().runtime_create, c.byref(options))
        self.cpu_level = _lib().runtime_cpu_level(self._handle).decode()
        self.threads = _lib().runtime_threads(self._handle)


class Model(_Handle):
    """A .infer file: a path, or its bytes. runtime: to share; else one of its own, with threads and cpu_level."""
    _destroy = "model_close"

    def __init__(self, source, runtime=None, threads=0, cpu_level=None):
        self.runtime = runtime or Runtime(threads, cpu_level)
        if isinstance(source, (bytes, bytearray)):
            options = _ModelOptions(load=1)
            self._pointer = _lib().make(_lib().model_open_memory, self.runtime._handle, bytes(source), len(source), c.byref(options))
        else:
            self._pointer = _lib().make(_lib().model_open, self.runtime._handle, os.fsencode(source), None)
        self.vocab_size = _lib().model_vocab_size(self._handle)
        self.context_length = _lib().model_context_length(self._handle)
        self.parameters = _lib().model_parameters(self._handle)
        self.metadata = _lib().model_metadata(self._handle).decode()
        self.dim = _lib().model_dim(self._handle)

    def tokenize(self, text, bos=True, special=False):
        data, flags = text.encode(), bos | special << 1
        return _counted(lambda *out: _lib().model_tokenize(self._handle, data, len(data), flags, *out), c.c_int32, len(data) + 16)

    def tokenize_chat(self, messages, template=None):
        """messages: (role, text), ...; role: system, user, assistant."""
        texts = [text.encode() for _, text in messages]
        array = (_Message * len(texts))(*[_Message(ROLES[role], text, len(text)) for (role, _), text in zip(messages, texts)])
        name = template and template.encode()
        guess = sum(map(len, texts)) + 256
        return _counted(lambda *out: _lib().model_tokenize_chat(self._handle, name, array, len(texts), *out), c.c_int32, guess)

    def detokenize(self, ids):
        array, n = _array(ids)
        return _counted(lambda *out: _lib().model_detokenize(self._handle, array, n, *out), c.c_char, 8 * n + 16).decode()

    def is_end(self, token):
        return bool(_lib().model_token_is_end(self._handle, token))

    def session(self, context=0, batch=0, logit_rows=0, kv="auto"):
        options = _SessionOptions(context=context, batch=batch, logit_rows=logit_rows, kv_type=KV[kv])
        return Session(self, _lib().make(_lib().session_create, self._handle, c.byref(options)))


class Session(_Handle):
    """A KV cache and what it takes to add to it: one conversation."""
    _destroy = "session_destroy"

    def __init__(self, model, handle):
        self.model, self._pointer = model, handle

    @property
    def position(self):
        return _lib().session_position(self._handle)

    @property
    def context(self):
        return _lib().session_context(self._handle)

    def eval(self, ids):
        """Appends tokens; the last one's logits as a list of floats."""
        _lib().session_eval(self._handle, *_array(ids), 1)
        return _lib().session_logits(self._handle, 0)[: self.model.vocab_size]

    def logprob(self, token):
        """Of a token behind what was evaluated last."""
        return _lib().logprob(c.cast(_lib().session_logits(self._handle, 0), c.c_void_p), self.model.vocab_size, token)

    def rewind(self, position):
        _lib().session_rewind(self._handle, position)

    def cancel(self):
        _lib().session_cancel(self._handle)

    def fork(self):
        return Session(self.model, _lib().make(_lib().session_fork, self._handle))

    def save(self):
        """The state as bytes."""
        state = c.create_string_buffer(_lib().session_state_bytes(self._handle))
        _lib().session_save(self._handle, state, len(state))
        return state.raw

    def restore(self, state):
        _lib().session_restore(self._handle, bytes(state), len(state))

    def save_file(self, path):
        _lib().session_save_file(self._handle, os.fsencode(path))

    def restore_file(self, path):
        _lib().session_restore_file(self._handle, os.fsencode(path))

    def embed(self, ids, pooling="mean"):
        out = (c.c_float * self.model.dim)()
        _lib().session_embed(self._handle, *_array(ids), {"last": 0, "mean": 1}[pooling], out)
        return list(out)

    def tokens(self, prompt, max_tokens=0, end=-1, **sampling):
        """Appends a prompt (a text or ids) and yields new tokens, greedily without sampling options. Leaving the loop ends the generation."""
        ids, n = _array(self.model.tokenize(prompt, bos=self.position == 0) if isinstance(prompt, str) else prompt)
        sampler = self._sampler(sampling)
        try:
            options = _GenerateOptions(sampler=sampler, max_tokens=max_tokens, end=end)
            _lib().session_start(self._handle, ids, n, c.byref(options))
            yield from self._poll()
        finally:
            _lib().sampler_destroy(sampler)

    def _sampler(self, sampling):
        if not sampling:
            return None
        defaults = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1, "repeat_last": 64, "seed": 0}
        options = _SamplerOptions(**{**defaults, **sampling})
        return _lib().make(_lib().sampler_create, self.model._handle, c.byref(options))

    def _poll(self):
        fd, ids, n, done = _lib().session_fd(self._handle), (c.c_int32 * 64)(), c.c_size_t(), c.c_int()
        try:
            while not done.value:
                select.select([fd], [], [])
                try:
                    _lib().session_poll(self._handle, ids, 64, c.byref(n), c.byref(done))
                except Error:
                    yield from ids[: n.value]  # the last ones come with how it ended
                    raise
                yield from ids[: n.value]
        finally:
            if not done.value and self._pointer:  # closing the session ended it
                self._end(fd, ids, n, done)

    def _end(self, fd, ids, n, done):
        self.cancel()
        while not done.value:
            select.select([fd], [], [])
            try:
                _lib().session_poll(self._handle, ids, 64, c.byref(n), c.byref(done))
            except Error:
                return

    def generate(self, prompt, **options):
        """tokens(), as pieces of text."""
        decoder = _lib().make(_lib().decoder_create, self.model._handle)
        try:
            for token in self.tokens(prompt, **options):
                yield self._push(decoder, token)
            yield self._push(decoder, -1)
        finally:
            _lib().decoder_destroy(decoder)

    @staticmethod
    def _push(decoder, token):
        text, size = c.c_char_p(), c.c_size_t()
        status = _lib().decoder_push(decoder, token, c.byref(text), c.byref(size))
        if status:
            raise Error(status, f"token {token}: outside the vocabulary")
        return c.string_at(text, size.value).decode()
