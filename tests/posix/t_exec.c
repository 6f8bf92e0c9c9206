#include "tests/posix/runner.h"
int exec_helper(int argc, char **argv){(void)argc;(void)argv;return 0;}
int readonly_prepare(const char *dir){(void)dir;return 0;}
