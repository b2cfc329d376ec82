# bash completion for libinfer's tools. Options come from the tool's own --help, so that they are never out of date; the values of
# some are listed here. Installed under each tool's name, where bash-completion looks.
# shellcheck shell=bash

# Values of an option; nothing and status 1: any file.
_infer_values() {
    case $2 in
    --type) "${1%infer-*}infer-convert" --help 2>/dev/null | sed -n 's/.*Types: //p' ;;
    --kv) echo auto f16 f32 q8 ;;
    --cpu) echo ref avx2 zen avxvnni avx512 avx512vnni neon neon-dotprod neon-i8mm ;;
    --energy) echo auto off estimate perf powercap scmi hwmon battery file: cmd: ;;
    --task) echo hellaswag arc piqa lambada ;;
    --chat-template) echo chatml llama3 llama2 mistral-v7 mistral-v1 mistral-v3-tekken mistral-v3 gemma phi3 zephyr ;;
    --shape) "$1" --help 2>/dev/null | sed -n 's/^Shapes: \(.*\)\.$/\1/p' | tr -d , ;;
    *) return 1 ;;
    esac
}

# Lines of --help that describe options begin with two blanks and a short form, or with six.
_infer_options() {
    "$1" --help 2>/dev/null | sed -n -E 's/^  (-.), (-[^[:space:]=[]+).*/\1\n\2/p; t; s/^      (-[^[:space:]=[]+).*/\1/p'
}

_infer() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} values
    COMPREPLY=()
    if [[ $current == '=' ]]; then # --energy=SOURCE comes in three words
        current=''
    elif [[ $previous == '=' ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_infer_options "$1")" -- "$current")
    elif values=$(_infer_values "$1" "$previous"); then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}

complete -o filenames -F _infer infer-run infer-convert infer-inspect infer-tokenize infer-eval infer-bench infer-distill
