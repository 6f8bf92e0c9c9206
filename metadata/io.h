/* The I/O threads: data operations leave the workers here. Private to metadata/. */
#ifndef METADATA_IO_H
#define METADATA_IO_H

#include "metadata/client.h"

struct io_pool;

enum io_op { IO_READ = 1, IO_WRITE, IO_FALLOCATE, IO_SEEK, IO_COPY, IO_FSYNC };

MUST_USE enum err io_create(struct fs *fs, unsigned threads);
/* Runs what is queued, then ends the threads. */
void io_destroy(struct fs *fs);
/* Any thread. */
void io_submit(struct fs *fs, struct fs_io *io, enum io_op op);
/* Runs one operation (data.c): on an I/O thread with its client. */
void io_run(struct fs_client *client, struct fs_io *io);

/* ---- data.c ---- */

struct open_inode;
/* Cuts off what a truncation voided, if anything. Not on a worker; takes inode->data. */
MUST_USE enum err data_cut(struct fs_client *client, struct open_inode *inode);
/* Object, name, row and redo on disk. Not on a worker. */
MUST_USE enum err data_sync(struct fs_client *client, struct open_inode *inode);

#endif
