/* Scripts: several statements in one text, and where in it an error is. */
#include "sql/script.h"

#include <stdlib.h>

#include "sql/prepare.h"

enum { CARET_WIDTH_MAX = 100 }; /* bytes of the source line shown */

enum err script_init(struct script *script, const char *text, size_t size, const char *database,
                     int64_t now_us, struct diag *diag)
{
    *script = (struct script){.now_us = now_us};
    if (!database) database = "fs";
    if (size > SQL_TEXT_SIZE_MAX)
        return diag_set(diag, ERR_TOO_BIG, "the statements are larger than %d bytes",
                        SQL_TEXT_SIZE_MAX);
    if (strlen(database) > SCHEMA_NAME_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "the name of the database is too long");
    script->text = malloc(size + 1);
    if (!script->text) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    memcpy(script->text, text, size);
    script->text[size] = '\0';
    script->size = (uint32_t)size;
    script_use(script, database);
    return ERR_NONE;
}

void script_fini(struct script *script)
{
    free(script->text);
    *script = (struct script){0};
}

void script_use(struct script *script, const char *database)
{
    size_t size = strnlen(database, SCHEMA_NAME_SIZE_MAX);
    memcpy(script->database_name, database, size);
    script->database_name[size] = '\0';
    script->database = script->database_name;
}

enum err script_next(struct script *script, const struct catalog *catalog, uint16_t partition_count,
                     struct arena *arena, struct sql_statement *ret_statement, struct diag *diag)
{
    if (script->at >= script->size) return ERR_END;
    struct diag local = {.position = UINT32_MAX};
    struct diag *where = diag ? diag : &local;
    where->position = UINT32_MAX;
    script->start = script->at;
    enum err err =
        prepare_at(catalog, partition_count, script->database, script->text + script->at,
                   script->size - script->at, script->now_us, arena, ret_statement, where);
    if (err) {
        if (where->position != UINT32_MAX) where->position += script->start;
        return err;
    }
    script->at += (uint32_t)ret_statement->size;
    return ERR_NONE;
}

char *script_caret(const struct script *script, const struct diag *diag)
{
    if (!script->text || diag->position > script->size) return NULL;
    uint32_t place = diag->position;
    uint32_t start = place, end = place;
    while (start > 0 && script->text[start - 1] != '\n')
        start--;
    while (end < script->size && script->text[end] != '\n')
        end++;
    /* A long line is cut around the place, at code point borders. */
    if (place - start > CARET_WIDTH_MAX * 3 / 4) start = place - CARET_WIDTH_MAX * 3 / 4;
    if (end - start > CARET_WIDTH_MAX) end = start + CARET_WIDTH_MAX;
    while (start < place && ((uint8_t)script->text[start] & 0xc0) == 0x80)
        start++;
    while (end < script->size && end > place && ((uint8_t)script->text[end] & 0xc0) == 0x80)
        end--;

    char *caret = malloc((size_t)(end - start) + (place - start) + 3);
    if (!caret) return NULL;
    size_t size = 0;
    for (uint32_t i = start; i < end; i++) {
        uint8_t c = (uint8_t)script->text[i];
        caret[size++] = c < ' ' || c == 0x7f ? ' ' : (char)c;
    }
    caret[size++] = '\n';
    for (uint32_t i = start; i < place; i++)
        if (((uint8_t)script->text[i] & 0xc0) != 0x80) caret[size++] = ' ';
    caret[size++] = '^';
    caret[size] = '\0';
    return caret;
}
