# Turns report files (*.sql) into a C table: name and text of each. Bytes outside printable ASCII as octal.
function flush() { if (name != "") print "\"},"; }
BEGIN { print "/* Generated from cli/reports. */\n#include \"cli/reports.h\"\n\nconst struct report reports[] = {" }
FNR == 1 {
    flush()
    name = FILENAME; sub(/.*\//, "", name); sub(/\.sql$/, "", name)
    printf "    {\"%s\",\n     \"", name
}
{
    line = $0; gsub(/\\/, "\\\\", line); gsub(/"/, "\\\"", line); gsub(/\?/, "\\?", line)
    printf "%s\\n\"\n     \"", line
}
END { flush(); print "};\nconst size_t report_count = sizeof(reports) / sizeof(reports[0]);" }
