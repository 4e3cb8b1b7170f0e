# Read once by the kernel's bash. Cells and variables come in files, as data; a cell's exit
# status goes to descriptor $__cell_out.
exec 2>&"$__cell_err"
unset PS1 PS2 PROMPT_COMMAND HISTFILE
PS1= PS2=
set +o history +H
shopt -s expand_aliases
__cell_status=0

# A cell finds the status of the last one in $?.
__cell_give() { return "$1"; }

# Set the variables in file $1 (name, NUL, value, NUL, ...), remembering what was there.
__cell_set() {
    __cell_saved=() __cell_new=()
    local __cell_name __cell_value
    while IFS= read -r -d '' __cell_name && IFS= read -r -d '' __cell_value; do
        if [[ -v $__cell_name ]]; then
            __cell_saved+=("$__cell_name" "${!__cell_name}")
        else
            __cell_new+=("$__cell_name")
        fi
        export "$__cell_name=$__cell_value"
    done <"$1"
}

# Undo __cell_set.
__cell_restore() {
    local __cell_index
    [[ ${#__cell_new[@]} -eq 0 ]] || unset "${__cell_new[@]}"
    for ((__cell_index = 0; __cell_index < ${#__cell_saved[@]}; __cell_index += 2)); do
        export "${__cell_saved[__cell_index]}=${__cell_saved[__cell_index + 1]}"
    done
    __cell_saved=() __cell_new=()
}

# Like __cell_set, for good; $2 names (NUL-separated) what is to be removed.
__cell_set_for_good() {
    local __cell_name __cell_value
    while IFS= read -r -d '' __cell_name; do unset "$__cell_name"; done <"$2"
    while IFS= read -r -d '' __cell_name && IFS= read -r -d '' __cell_value; do
        export "$__cell_name=$__cell_value"
    done <"$1"
}
