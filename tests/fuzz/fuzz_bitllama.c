/* The bitllama importer. A file of it has exactly the length that its header says: seeds.py makes one to begin with. */
#include "fuzz_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_checkpoint(data, size);
    return 0;
}
