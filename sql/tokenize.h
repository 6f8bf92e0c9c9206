/* Text to tokens. Private to sql/. */
#ifndef SQL_TOKENIZE_H
#define SQL_TOKENIZE_H

#include <stdint.h>

/* A slice of the statement's text. */
struct token {
    const char *text;
    uint32_t position; /* byte offset in the text */
    uint32_t size;
    int code; /* TK_… of the generated sql/parse.h; 0 at the end */
};

struct tokenizer {
    const char *text; /* text[size] is NUL */
    uint32_t size;
    uint32_t at; /* the next byte to look at */
};

enum { TOKEN_BAD = -1 };

/* Skips white space and comments and takes the next token. Returns its code, 0 at the end of the
 * text, or TOKEN_BAD with *ret_reason, a static one-line text, and the token that marks the place.
 */
int tokenize_next(struct tokenizer *tokenizer, struct token *ret_token, const char **ret_reason);

#endif
