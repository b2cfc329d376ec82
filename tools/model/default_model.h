/* The model inside the tools. */
#ifndef INFER_TOOLS_DEFAULT_MODEL_H
#define INFER_TOOLS_DEFAULT_MODEL_H

#define DEFAULT_MODEL_NAME "pupil"

/* The path to open for a model that was asked for: that of the built-in one for its name, where no file has it; else `model` itself. Valid as long as the
 * program runs. Failure is cli_die. */
const char *default_model_or(const char *model);

#endif
