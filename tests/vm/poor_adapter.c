/* Loaded before libibverbs, makes of any adapter one that takes no inline data and cannot enlarge
 * its completion queues, as some cannot. */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

#include <infiniband/verbs.h>

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attributes)
{
    struct ibv_qp *(*real)(struct ibv_pd * pd, struct ibv_qp_init_attr * attributes);
    *(void **)&real = dlsym(RTLD_NEXT, "ibv_create_qp");
    if (attributes->cap.max_inline_data) {
        errno = EINVAL;
        return NULL;
    }
    struct ibv_qp *qp = real(pd, attributes);
    attributes->cap.max_inline_data = 0; /* Soft-RoCE rounds up */
    return qp;
}

int ibv_resize_cq(struct ibv_cq *cq, int size)
{
    (void)cq;
    (void)size;
    return EOPNOTSUPP;
}
