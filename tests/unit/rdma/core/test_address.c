#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "rdma/address.h"

static struct port_address parsed(const char *text)
{
    struct port_address address;
    struct diag diag;
    cr_assert_eq(port_address_parse(text, &address, &diag), ERR_NONE, "%s: %s", text, diag.text);
    return address;
}

Test(address, each_kind_is_parsed)
{
    struct port_address tcp = parsed("tcp:db1.example.com:3406");
    cr_assert(tcp.kind == LINK_TCP && !tcp.tls && tcp.port == 3406);
    cr_assert_str_eq(tcp.host, "db1.example.com");
    struct port_address tls = parsed("tls:[fe80::1%eth0]:1");
    cr_assert(tls.kind == LINK_TCP && tls.tls && tls.port == 1);
    cr_assert_str_eq(tls.host, "fe80::1%eth0");
    struct port_address verbs = parsed("verbs:10.0.0.1:0");
    cr_assert(verbs.kind == LINK_VERBS && verbs.port == 0);
    struct port_address shm = parsed("shm:/run/trellis/a b:c");
    cr_assert_eq(shm.kind, LINK_SHM);
    cr_assert_str_eq(shm.path, "/run/trellis/a b:c");
    struct port_address sim = parsed("sim:4294967295");
    cr_assert(sim.kind == LINK_SIM && sim.sim == UINT32_MAX);
}

Test(address, what_is_formatted_is_parsed_as_the_same)
{
    static const char *const texts[] = {"tcp:localhost:1",       "tls:127.0.0.1:65535",
                                        "verbs:[::1]:3406",      "shm:relative/path",
                                        "shm:/:tcp:a:1",         "sim:0",
                                        "tcp:[::ffff:1.2.3.4]:9"};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct port_address address = parsed(texts[i]);
        char text[PORT_ADDRESS_TEXT_SIZE];
        port_address_format(&address, text);
        cr_assert_str_eq(text, texts[i]);
        struct port_address again = parsed(text);
        cr_assert_eq(memcmp(&address, &again, sizeof(address)), 0);
    }
}

Test(address, nonsense_is_refused_with_the_text_quoted)
{
    static const char *const texts[] = {
        "",           "tcp",        "tcp:",           "tcp:host",
        "tcp:host:",  "tcp::1",     "tcp:h:65536",    "tcp:h:-1",
        "tcp:h:1x",   "tcp:h: 1",   "tcp:::1:1",      "tcp:[::1]",
        "tcp:[::1]1", "tcp:[::1:1", "tcp:[]:1",       "udp:h:1",
        "TCP:h:1",    "tcpx:h:1",   "shm:",           "sim:",
        "sim:x",      "sim:-1",     "sim:4294967296", "tcp:h h:1",
        "tcp:h/:1",   "tcp:h:1:2",  ":h:1",           "tls:h:99999999999999999999",
        "host:1",
    };
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct port_address address = {.port = 42};
        struct diag diag;
        cr_assert_eq(port_address_parse(texts[i], &address, &diag), ERR_INVALID, "%s", texts[i]);
        cr_assert_eq(address.port, 42, "%s", texts[i]);
        cr_assert_not_null(strstr(diag.text, texts[i]), "%s", diag.text);
    }
}

Test(address, names_and_paths_have_limits)
{
    char text[8192];
    struct port_address address;
    struct diag diag;
    for (unsigned over = 0; over < 2; over++) {
        int size = PORT_HOST_SIZE_MAX + (int)over;
        snprintf(text, sizeof(text), "tcp:%0*d:1", size, 7);
        cr_assert_eq(port_address_parse(text, &address, &diag), over ? ERR_INVALID : ERR_NONE);
        size = PORT_PATH_SIZE_MAX + (int)over;
        snprintf(text, sizeof(text), "shm:%0*d", size, 7);
        cr_assert_eq(port_address_parse(text, &address, &diag), over ? ERR_INVALID : ERR_NONE);
    }
}
