/* Descriptors of objects: opened when data is first read or written, kept while the file is open,
 * closed early when there are too many. Private to metadata/; see open.h for the rest. */
#ifndef METADATA_FD_H
#define METADATA_FD_H

#include "metadata/open.h"

/* The inode goes away: closes its descriptor. */
void fd_forget(struct open_inode *inode);

#endif
