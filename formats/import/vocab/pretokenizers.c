/* The pre-tokenizers that GGUF files name ("tokenizer.ggml.pre"), as each family's tokenizer.json has them. A new one: a line. */
#include "import/vocab/tokenizers.h"

#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Words in which upper case letters come first, as in GPT-4o's and Mistral's Tekken; `ending` follows each of them. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_WORDS(ending) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" ending "|"

/* DeepSeek: letters of alphabets with upper and lower case; CJK ideographs and what stands from U+0800 to U+4E00, Hangul. */
#define CASED_LETTERS                                                                                                                      \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"                       \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"                         \
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}"                           \
    "\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"                   \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}"                    \
    "\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"                    \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                    \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}"                     \
    "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"                     \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}"                    \
    "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"                   \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"                            \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define UNCASED "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* Kimi K2: the same words, of letters that are no Chinese characters. */
#define NO_HAN(class) "(?:(?!\\p{sc:Han})" class ")"
#define CASED_WORDS_NO_HAN(ending)                                                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?" NO_HAN(UPPER) "*" NO_HAN(LOWER) "+" ending                                                                    \
                                                             "|[^\\r\\n\\p{L}\\p{N}]?" NO_HAN(UPPER) "+" NO_HAN(LOWER) "*" ending "|"

/* BLOOM: what is between these marks. */
#define BETWEEN_MARKS " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

/* Asian scripts that are written without spaces: AFMoE's, and Youtu's with their marks. */
#define WITHOUT_SPACES                                                                                                                     \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}"                  \
    "\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}"    \
    "\\x{1100}-\\x{11FF}]+"
#define EAST_ASIAN                                                                                                                         \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|"                                                                                           \
    "[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|" \
    "[\\x{3105}-\\x{312F}]+|[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+"

/* DeepSeek V3: a sign and the letters behind it; letters with marks; signs and line ends. */
#define SIGNS_AND_WORDS                                                                                                                    \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
/* Numbers in threes from the right: (?=(\d{3})+(?!\d)) in the original, which looks through the rest of the number at each digit. */
#define THREES(digit) "^" digit "{1,2}(?=(?:" digit "{3})++(?!" digit "))|" digit "{3}"
#define WORDS_NUMBERS_SIGNS(numbers) "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define LINES "[^\\n]+|\\n+"

#define NO_BYTES (1u << 31) /* texts are not in GPT-2's byte alphabet */
#define STARTS_WITH_BOS (INFER_VOCAB_WHOLE_PIECES | INFER_VOCAB_ADD_BOS)

static const struct family {
    const char *names;    /* each with a space behind it */
    const char *patterns; /* NUL-separated; NULL: the pre-tokenizer's number says it */
    uint32_t pretokenizer, count, flags;
} families[] = {
    {"gpt-2 phi-2 mpt olmo jais gigachat roberta-bpe jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code trillion a.x-4.0 mellum "
     "granite-docling exaone4 modern-bert ",
     NULL, INFER_PRETOKENIZER_GPT2, 0, 0},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ", NULL, INFER_PRETOKENIZER_LLAMA3, 0,
     STARTS_WITH_BOS},
    {"dbrx smaug-bpe chatglm-bpe glm4 ", NULL, INFER_PRETOKENIZER_LLAMA3, 0, 0},
    {"qwen2 stablelm2 deepseek-r1-qwen megrez kormo f2llmv2 hunyuan grok-2 solar-open ", NULL, INFER_PRETOKENIZER_QWEN2, 0, 0},
    {"qwen35 ", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES,
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"seed-coder ", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|" SPACES, INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"bailingmoe bailingmoe2 llada-moe ",
     "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"superbpe ", "\\p{N}+\0" THREES("\\d"), INFER_PRETOKENIZER_PATTERNS, 2, 0},
    {"afmoe ", "\\p{N}+\0" THREES("\\p{N}") "\0" WITHOUT_SPACES "\0" SIGNS_AND_WORDS, INFER_PRETOKENIZER_PATTERNS, 4, 0},
    {"tiny_aya cohere2moe ",
     "\\d{1,3}(?=(?:\\d{3})*\\b)\0" CASED_WORDS(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     INFER_PRETOKENIZER_PATTERNS, 2, 0},
    {"ufakzeka ", WORDS_NUMBERS_SIGNS("\\p{N}") SPACES, INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"laguna ", LINES "\0" CONTRACTIONS "|" WORDS_NUMBERS_SIGNS("\\p{N}") SPACES, INFER_PRETOKENIZER_PATTERNS, 2, 0},
    {"minicpm5 ", "\\p{N}{1,3}\0" CONTRACTIONS "|" WORDS_NUMBERS_SIGNS("\\p{N}+") SPACES, INFER_PRETOKENIZER_PATTERNS, 2,
     INFER_VOCAB_WHOLE_PIECES},
    {"jais-2 ",
     CONTRACTIONS "|" WORDS_NUMBERS_SIGNS("\\p{N}{1,3}") "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|"
                                                         "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"exaone-moe ",
     CONTRACTIONS
     "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"youtu ", EAST_ASIAN "\0" CASED_WORDS(CONTRACTIONS "?") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES, INFER_PRETOKENIZER_PATTERNS,
     2, INFER_VOCAB_WHOLE_PIECES},
    {"granite-embed-multi-97m ", CASED_WORDS(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     INFER_PRETOKENIZER_PATTERNS, 1, INFER_VOCAB_WHOLE_PIECES},
    {"gemma4 granite-embed-multi-311m sarvam-moe ", LINES, INFER_PRETOKENIZER_PATTERNS, 1, NO_BYTES | INFER_VOCAB_META_SPACE},
    {"whitespace ", "\\S+", INFER_PRETOKENIZER_PATTERNS, 1, NO_BYTES},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ", "\\p{N}\0" INFER_PATTERN_WORDS, INFER_PRETOKENIZER_PATTERNS,
     2, 0},
    {"falcon ", "[\\p{P}\\$\\+<=>\\^~\\|`]+\0" INFER_PATTERN_WORDS "\0[0-9][0-9][0-9]", INFER_PRETOKENIZER_PATTERNS, 3, 0},
    {"default ", "[\\p{P}\\$\\+<=>\\^~\\|]+\0" INFER_PATTERN_WORDS "\0\\p{N}+\0[0-9][0-9][0-9]", INFER_PRETOKENIZER_PATTERNS, 4, 0},
    {"deepseek-llm ",
     "[\\r\\n]\0\\s?[" CASED_LETTERS "]+\0\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+\0"
     "\\s+$\0" UNCASED "\0\\p{N}+",
     INFER_PRETOKENIZER_PATTERNS, 6, 0},
    {"deepseek-coder ", "[\\r\\n]\0\\s?\\p{L}+\0\\s?\\p{P}+\0" UNCASED "\0\\p{N}", INFER_PRETOKENIZER_PATTERNS, 5, 0},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4 ",
     "\\p{N}{1,3}\0[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+\0" SIGNS_AND_WORDS, INFER_PRETOKENIZER_PATTERNS, 3, 0},
    {"poro-chat bloom gpt3-finnish ", BETWEEN_MARKS, INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"viking ", BETWEEN_MARKS "\0\\p{N}", INFER_PRETOKENIZER_PATTERNS, 2, 0},
    {"tekken ", CASED_WORDS("") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES, INFER_PRETOKENIZER_PATTERNS, 1, STARTS_WITH_BOS},
    {"gpt-4o llama4 minimax-m2 kanana2 talkie ", CASED_WORDS(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"kimi-k2 ", "\\p{sc:Han}+|" CASED_WORDS_NO_HAN(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
     INFER_PRETOKENIZER_PATTERNS, 1, 0},
    {"chameleon ", "<sentinel:[0-9]+>\0IMGIMG[A-I]{1,4}Z\0[\\t\\n]|    |  \0\\p{N}\0[\\p{P}!-/:-@\\[-`{-~]\0" INFER_PATTERN_WORDS,
     INFER_PRETOKENIZER_PATTERNS, 6, INFER_VOCAB_ADD_BOS},
};

bool infer_pretokenizer_by_name(const char *name, size_t bytes, infer_vocab_parts *out)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        for (const char *p = f->names, *space; (space = strchr(p, ' ')); p = space + 1)
            if ((size_t)(space - p) == bytes && memcmp(p, name, bytes) == 0) {
                out->pretokenizer = f->pretokenizer;
                out->patterns = f->patterns;
                out->pattern_count = f->count;
                out->flags |= f->flags & ~NO_BYTES;
                if (f->flags & NO_BYTES)
                    out->flags &= ~INFER_VOCAB_BYTE_LEVEL;
                return true;
            }
    }
    return false;
}
