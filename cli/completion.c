/* `trellis completion`: a bash script made from the table of subcommands, so that it cannot go
 * stale. */
#include "cli/cli.h"

#include <ctype.h>
#include <string.h>

/* The long options that a help text names. */
static void print_options(const char *help)
{
    for (const char *at = help; (at = strstr(at, "--"));) {
        size_t size = 2;
        while (isalnum((unsigned char)at[size]) || at[size] == '-')
            size++;
        if (size > 2) (void)printf(" %.*s", (int)size, at);
        at += size;
    }
}

int cli_completion(int argc, char **argv)
{
    (void)argv;
    if (argc != 1) return cli_usage("completion", "it takes no arguments");
    (void)printf("_trellis() {\n"
                 "    local word=${COMP_WORDS[COMP_CWORD]} options=\n"
                 "    if ((COMP_CWORD == 1)); then\n"
                 "        COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < command_count; i++)
        (void)printf("%s ", commands[i].name);
    (void)printf("' -- \"$word\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < command_count; i++) {
        (void)printf("    %s) options='--help", commands[i].name);
        print_options(commands[i].help);
        (void)printf("' ;;\n");
    }
    (void)printf("    esac\n"
                 "    if [[ $word == -* ]]; then\n"
                 "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
                 "    elif [[ ${COMP_WORDS[1]} == report ]]; then\n"
                 "        COMPREPLY=($(compgen -W \"$(trellis report --names 2>/dev/null)\" -- "
                 "\"$word\"))\n"
                 "    else\n"
                 "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
                 "    fi\n"
                 "}\n"
                 "complete -o filenames -F _trellis trellis\n");
    return EXIT_OK;
}
