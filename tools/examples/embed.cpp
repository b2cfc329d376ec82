// embed MODEL TEXT TEXT...: how like the first text the others are (cosine of their embeddings), from C++.
#include <infer/infer_experimental.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

template <auto destroy> struct destroyer {
    template <class T> void operator()(T *p) const { destroy(p); }
};
using runtime = std::unique_ptr<infer_runtime, destroyer<infer_runtime_destroy>>;
using model = std::unique_ptr<infer_model, destroyer<infer_model_close>>;
using session = std::unique_ptr<infer_session, destroyer<infer_session_destroy>>;

// Calls f(arguments..., &out, &err) and hands out what it made.
template <class Handle, class F, class... Arguments> Handle make(F f, Arguments... arguments)
{
    typename Handle::pointer out = nullptr;
    infer_error err;
    if (f(arguments..., &out, &err) != INFER_OK)
        throw std::runtime_error(err.message);
    return Handle(out);
}

std::vector<float> embedding(const infer_model *m, infer_session *s, const std::string &text)
{
    std::vector<float> out(infer_model_dim(m));
    std::vector<int32_t> ids(text.size() + 16);
    infer_error err;
    size_t n = 0;
    if (infer_model_tokenize(m, text.data(), text.size(), INFER_TOKENIZE_BOS, ids.data(), ids.size(), &n, &err) != INFER_OK ||
        infer_session_rewind(s, 0, &err) != INFER_OK ||
        infer_session_embed(s, ids.data(), n, INFER_POOLING_MEAN, out.data(), &err) != INFER_OK)
        throw std::runtime_error(err.message);
    return out;
}

double cosine(const std::vector<float> &a, const std::vector<float> &b)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); i++) {
        ab += double(a[i]) * b[i];
        aa += double(a[i]) * a[i];
        bb += double(b[i]) * b[i];
    }
    return ab / std::sqrt(aa * bb);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4) {
        std::fputs("usage: embed MODEL TEXT TEXT...\n", stderr);
        return 2;
    }
    try {
        auto rt = make<runtime>(infer_runtime_create, nullptr);
        auto m = make<model>(infer_model_open, rt.get(), argv[1], nullptr);
        auto s = make<session>(infer_session_create, m.get(), nullptr);
        auto first = embedding(m.get(), s.get(), argv[2]);
        for (int i = 3; i < argc; i++)
            std::printf("%.4f %s\n", cosine(first, embedding(m.get(), s.get(), argv[i])), argv[i]);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
