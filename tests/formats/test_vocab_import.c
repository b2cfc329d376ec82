/* Vocabularies in JSON and SentencePiece's format: what is understood, and what is refused, by name, fast and in bounded memory. */
#include "check.h"
#include "samples.h"

#include "import/import.h"
#include "vocab.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

static infer_status import(const char *path, uint8_t **section, infer_vocab_view *v, infer_error *err)
{
    void *out = NULL;
    size_t bytes;
    infer_status s = infer_vocab_import(NULL, path, &out, &bytes, err);
    if (s == INFER_OK)
        cr_assert_eq(infer_vocab_parse(out, bytes, path, v, err), INFER_OK, "%s", err->message);
    else
        cr_assert_null(out);
    *section = out;
    return s;
}

static const char *text_of(const infer_vocab_view *v, uint32_t id)
{
    static char text[256];
    const uint32_t start = id ? v->ends[id - 1] : 0;
    snprintf(text, sizeof text, "%.*s", (int)(v->ends[id] - start), v->text + start);
    return text;
}

/* ---- tokenizer.json ---- */

#define SMALL_MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static const char whole[] =
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true,\"lstrip\":true},{\"id\":6,\"content\":\"!!\",\"rstrip\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\" ?[^(\\\\s|[.,\\\\p{Han}])]+\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[4],\"tokens\":[\"<s>\"]}}},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"b\",\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"aba\":3},"
    "\"merges\":[\"a b\",[\"ab\",\"a\"]]}}";

Test(tokenizer_json, reads_all_parts)
{
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    cr_assert_eq(import(sample_write("tokenizer.json", whole, strlen(whole)), &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_BPE && v.tokens == 7 && v.merges == 2 && v.unk == 1 && v.bos == 4);
    cr_assert_eq(v.flags, INFER_VOCAB_NFC | INFER_VOCAB_LOWERCASE | INFER_VOCAB_BYTE_LEVEL | INFER_VOCAB_ADD_BOS |
                              INFER_VOCAB_WHOLE_PIECES | INFER_VOCAB_UNKNOWN_EACH);
    cr_assert(v.pattern_count == 2);
    cr_assert_str_eq(v.patterns, " ?[^(\\s|.,\\p{sc:Han})]+"); /* the script alone, as Oniguruma has it */
    cr_assert_str_eq(v.patterns + strlen(v.patterns) + 1, "\\p{N}");
    cr_assert_str_eq(text_of(&v, 6), "!!");
    cr_assert(v.types[1] == INFER_TOKEN_UNKNOWN && v.types[4] == (INFER_TOKEN_CONTROL | INFER_TOKEN_LSTRIP) &&
              v.types[5] == INFER_TOKEN_UNUSED && v.types[6] == (INFER_TOKEN_ADDED | INFER_TOKEN_RSTRIP));
    cr_assert(v.merge[1][0] == 2 && v.merge[1][1] == 0);
    infer_free(NULL, section);
}

Test(tokenizer_json, wordpieces_and_unigrams)
{
    static const char bert[] =
        "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"lowercase\":true,\"strip_accents\":null},"
        "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
        "\"continuing_subword_prefix\":\"##\",\"vocab\":{\"[UNK]\":0,\"run\":1,\"##ning\":2}}}";
    static const char t5[] =
        "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AQIDBAU=\"},\"pre_tokenizer\":{\"type\":\"Metaspace\","
        "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
        "\"vocab\":[[\"<unk>\",0],[\"a\",-1.5]]}}";
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    cr_assert_eq(import(sample_write("bert.json", bert, strlen(bert)), &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_WORDPIECE && v.pretokenizer == INFER_PRETOKENIZER_BERT && v.unk == 0);
    cr_assert_str_eq(text_of(&v, 1), "\xe2\x96\x81run");
    cr_assert_str_eq(text_of(&v, 2), "ning");
    infer_free(NULL, section);
    cr_assert_eq(import(sample_write("t5.json", t5, strlen(t5)), &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_UNIGRAM && v.scores[1] == -1.5f && v.charsmap_bytes == 5 && memcmp(v.charsmap, "\1\2\3\4\5", 5) == 0);
    infer_free(NULL, section);
}

Test(tokenizer_json, refuses_by_name)
{
    static const struct {
        const char *json;
        infer_status status;
        const char *words;
    } cases[] = {
        {"{", INFER_ERROR_FORMAT, "not one JSON object"},
        {"{\"a\":\"\xff\"}", INFER_ERROR_FORMAT, "not UTF-8"},
        {"{\"model\":7}", INFER_ERROR_FORMAT, "no model"},
        {"{\"model\":{\"type\":\"Lattice\",\"vocab\":{\"a\":0}}}", INFER_ERROR_UNSUPPORTED, "Lattice"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", INFER_ERROR_FORMAT, "vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", INFER_ERROR_FORMAT, "tokens: found 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", INFER_ERROR_FORMAT, "token \"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0.5}}}", INFER_ERROR_FORMAT, "token \"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300}}}", INFER_ERROR_FORMAT, "token \"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"}}}", INFER_ERROR_FORMAT, "token \"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0}}}", INFER_ERROR_FORMAT, "same id 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"unk_token\":\"u\"}}", INFER_ERROR_FORMAT, "unk_token"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", INFER_ERROR_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", INFER_ERROR_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", INFER_ERROR_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", INFER_ERROR_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"end_of_word_suffix\":\"</w>\",\"byte_fallback\":true}}",
         INFER_ERROR_UNSUPPORTED, "end_of_word_suffix"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"dropout\":0.5}}", INFER_ERROR_UNSUPPORTED, "dropout 0.5"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0},\"max_input_chars_per_word\":0.5}}", INFER_ERROR_FORMAT, "max_input"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0},\"continuing_subword_prefix\":\"\"}}", INFER_ERROR_UNSUPPORTED,
         "continuing_subword_prefix"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],7]}}", INFER_ERROR_FORMAT, "token 1"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",1e300]]}}", INFER_ERROR_FORMAT, "token 0"},
        {"{\"added_tokens\":[{\"id\":1}]," SMALL_MODEL "}", INFER_ERROR_FORMAT, "added_tokens"},
        {"{\"added_tokens\":[{\"id\":2,\"content\":\"x\"}]," SMALL_MODEL "}", INFER_ERROR_FORMAT, "same id 2"},
        {"{\"normalizer\":{\"type\":\"Odd\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "Odd"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"y\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED,
         "Replace"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"}," SMALL_MODEL "}", INFER_ERROR_FORMAT, "base64"},
        {"{\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "CharDelimiterSplit"},
        {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "UnicodeScripts"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "Metaspace"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"MergedWithBoth\"}," SMALL_MODEL "}",
         INFER_ERROR_UNSUPPORTED, "MergedWithBoth"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<n>x)y\"},\"behavior\":\"Isolated\"}," SMALL_MODEL "}",
         INFER_ERROR_UNSUPPORTED, "(?<n>x)y"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}," SMALL_MODEL "}",
         INFER_ERROR_UNSUPPORTED, "intersection"},
        {"{\"post_processor\":{\"type\":\"Odd\"}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "Odd"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",0],\"sep\":[\"c\",3]}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED,
         "BertProcessing"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," SMALL_MODEL "}", INFER_ERROR_UNSUPPORTED, "Template"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        cr_assert_eq(import(sample_write("bad.json", cases[i].json, strlen(cases[i].json)), &section, &v, &err), cases[i].status, "%s: %s",
                     cases[i].json, err.message);
        cr_assert(strstr(err.message, cases[i].words) && strstr(err.message, "bad.json"), "%s: %s", cases[i].json, err.message);
        cr_assert_null(strchr(err.message, '\n'));
    }
}

Test(tokenizer_json, truncated_at_every_byte)
{
    for (size_t n = 1; n + 1 < sizeof whole; n++) {
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        expect_that(import(sample_write("cut.json", whole, n), &section, &v, &err) == INFER_ERROR_FORMAT, "cut to %zu bytes", n);
    }
}

/* What looks small and would become large. */
Test(tokenizer_json, of_hostile_size)
{
    static const char *const parts[] = {"[", "[],", "{\"a\":"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const size_t n = strlen(parts[i]), count = (48u << 20) / n;
        char *json = malloc(count * n + 1);
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        clock_t start;
        double seconds;
        cr_assert(json);
        for (size_t k = 0; k < count; k++)
            memcpy(json + k * n, parts[i], n);
        json[0] = '{';
        sample_write("large.json", json, count * n);
        start = clock();
        cr_assert_eq(import(sample_path("large.json"), &section, &v, &err), INFER_ERROR_FORMAT);
        seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        cr_assert_lt(seconds, 1.0 * CHECK_SLOWDOWN, "%.3f s", seconds);
        free(json);
    }
}

/* ---- vocab.json and merges.txt ---- */

static infer_status import_pair(const char *vocab, const char *merges, uint8_t **section, infer_vocab_view *v, infer_error *err)
{
    sample_write("merges.txt", merges, strlen(merges));
    return import(sample_write("vocab.json", vocab, strlen(vocab)), section, v, err);
}

Test(vocab_json, reads_the_pair)
{
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    cr_assert_eq(import_pair("{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3}", "#version: 0.2\na b\r\n\na b", &section, &v, &err), INFER_OK,
                 "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_BPE && v.flags == INFER_VOCAB_BYTE_LEVEL && v.pretokenizer == INFER_PRETOKENIZER_GPT2);
    cr_assert(v.tokens == 4 && v.merges == 2 && v.bos == 3 && v.eos == 3 && v.types[3] == INFER_TOKEN_CONTROL);
    infer_free(NULL, section);
    cr_assert_eq(import_pair("{\"a\":0,\";\xc4\x8a\":1,\"100\":2}", "", &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.pretokenizer == INFER_PRETOKENIZER_LLAMA3 && v.flags & INFER_VOCAB_WHOLE_PIECES);
    infer_free(NULL, section);
}

Test(vocab_json, refuses)
{
    static const char *const bad[][3] = {{"{\"a\":0}", "a b\n", "merge 0"},   {"{\"a\":0}", "a\n", "merge 0"},
                                         {"{\"a\":1}", "\n", "token \"a\""},  {"{\"a\":0,\"b\":0}", "\n", "token \"b\""},
                                         {"{\"a\":{}}", "\n", "token \"a\""}, {"{}", "\n", "tokens: found 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        cr_assert_eq(import_pair(bad[i][0], bad[i][1], &section, &v, &err), INFER_ERROR_FORMAT, "%s", bad[i][0]);
        cr_assert(strstr(err.message, bad[i][2]), "%s", err.message);
    }
}

/* ---- SentencePiece ---- */

static void add_field(sample *s, unsigned number, const void *data, size_t bytes)
{
    sample_u8(s, (uint8_t)(number << 3 | 2));
    sample_u8(s, (uint8_t)bytes);
    sample_add(s, data, bytes);
}

static void add_piece(sample *s, const char *text, float score, uint8_t type)
{
    sample p = {0};
    add_field(&p, 1, text, strlen(text));
    sample_u8(&p, 2 << 3 | 5);
    sample_f32(&p, score);
    sample_u8(&p, 3 << 3);
    sample_u8(&p, type);
    add_field(s, 1, p.data, p.size);
    sample_free(&p);
}

/* Four pieces; a trainer with the model type, byte fallback and no end token (-1, in ten bytes); a normalizer without a space before the
 * text. */
static sample sentencepiece(uint8_t model_type)
{
    const uint8_t trainer[] = {3 << 3, model_type, 0x98, 0x02, 1, 0xd0, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    const uint8_t normalizer[] = {1 << 3 | 2, 1, 'x', 2 << 3 | 2, 3, 7, 8, 9, 3 << 3, 0, 4 << 3, 0};
    sample s = {0};
    add_piece(&s, "<unk>", 0, 2);
    add_piece(&s, "<s>", 0, 3);
    add_piece(&s, "<0x0A>", 0, 6);
    add_piece(&s,
              "\xe2\x96\x81"
              "a",
              -2.5f, 1);
    add_field(&s, 2, trainer, sizeof trainer);
    add_field(&s, 3, normalizer, sizeof normalizer);
    return s;
}

Test(sentencepiece, reads)
{
    for (uint8_t type = 1; type <= 2; type++) {
        sample s = sentencepiece(type);
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        cr_assert_eq(import(sample_write("t.model", s.data, s.size), &section, &v, &err), INFER_OK, "%s", err.message);
        cr_assert_eq(v.kind, type == 2 ? INFER_VOCAB_SPM : INFER_VOCAB_UNIGRAM);
        cr_assert_eq(v.flags, INFER_VOCAB_META_SPACE | INFER_VOCAB_BYTE_FALLBACK | INFER_VOCAB_ADD_BOS | INFER_VOCAB_CHARSMAP);
        cr_assert(v.tokens == 4 && v.unk == 0 && v.bos == 1 && v.eos == INFER_VOCAB_NO_ID && v.scores[3] == -2.5f);
        cr_assert(v.charsmap_bytes == 3 && memcmp(v.charsmap, "\7\10\11", 3) == 0);
        cr_assert_str_eq(text_of(&v, 3), "\xe2\x96\x81"
                                         "a");
        infer_free(NULL, section);
        sample_free(&s);
    }
}

Test(sentencepiece, refuses)
{
    sample s = sentencepiece(3);
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    cr_assert_eq(import(sample_write("t.model", s.data, s.size), &section, &v, &err), INFER_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "model type 3"), "%s", err.message);
    sample_free(&s);
}

/* Cut between two fields the file is a smaller model; else it is none. Whatever bits are wrong, nothing crashes. */
Test(sentencepiece, truncated_and_flipped)
{
    sample s = sentencepiece(2);
    size_t accepted = 0;
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    for (size_t n = 1; n < s.size; n++) {
        accepted += import(sample_write("cut.model", s.data, n), &section, &v, &err) == INFER_OK;
        infer_free(NULL, section);
    }
    cr_assert_leq(accepted, 6);
    for (size_t bit = 0; bit < 8 * s.size; bit++) {
        s.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        import(sample_write("flip.model", s.data, s.size), &section, &v, &err);
        infer_free(NULL, section);
        s.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    sample_free(&s);
}
