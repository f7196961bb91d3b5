/* Loaded before libc by tests (LD_PRELOAD): the real program meets a full disk, a right that is missing, or a clock that
 * runs fast.
 *
 * WEIR_TEST_FULL names a file. While it exists, with the lines TEXT and BYTES, files with TEXT in their path take so many
 * bytes more, all together, and then ENOSPC, as a disk does that fills up in the middle of a file.
 * WEIR_TEST_STUCK names a file. While it exists, files with the text of its first line in their path cannot be deleted.
 * WEIR_TEST_CLOCK is "BEGIN FACTOR": the wall clock ran right until BEGIN (seconds since 1970), and so many times too fast
 * since. The monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long taken;

/* Bytes that the file may still take; -1: the disk has room. */
static long room(int fd) {
  const char *rule = getenv("WEIR_TEST_FULL");
  if (!rule) return -1;
  int before = errno;
  long left = -1;
  char text[1024], link[64], path[4096];
  int open_rule = open(rule, O_RDONLY | O_CLOEXEC);
  if (open_rule < 0) {
    atomic_store(&taken, 0);
  } else {
    ssize_t n = read(open_rule, text, sizeof text - 1);
    close(open_rule);
    text[n > 0 ? n : 0] = 0;
    char *bytes = strchr(text, '\n');
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (bytes && length > 0) {
      *bytes = 0;
      path[length] = 0;
      if (strstr(path, text)) {
        left = atol(bytes + 1) - atomic_load(&taken);
        if (left < 0) left = 0;
      }
    }
  }
  errno = before;
  return left;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  long left = room(fd);
  if (left == 0 && count > 0) {
    errno = ENOSPC;
    return -1;
  }
  if (left > 0 && count > (size_t)left) count = left;
  ssize_t done = syscall(SYS_write, fd, bytes, count);
  if (left > 0 && done > 0) atomic_fetch_add(&taken, done);
  return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (room(fd) < 0) return syscall(SYS_writev, fd, parts, count);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

int unlink(const char *path) {
  const char *rule = getenv("WEIR_TEST_STUCK");
  int open_rule = rule ? open(rule, O_RDONLY | O_CLOEXEC) : -1;
  if (open_rule >= 0) {
    char text[1024];
    ssize_t n = read(open_rule, text, sizeof text - 1);
    close(open_rule);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    if (*text && strstr(path, text)) {
      errno = EPERM;
      return -1;
    }
  }
  return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int done = syscall(SYS_clock_gettime, clock, time);
  const char *fast = clock == CLOCK_REALTIME ? getenv("WEIR_TEST_CLOCK") : NULL;
  long begin, factor;
  if (done == 0 && fast && sscanf(fast, "%ld %ld", &begin, &factor) == 2) {
    __int128 nanos = (__int128)(time->tv_sec - begin) * 1000000000 + time->tv_nsec;
    nanos = nanos * factor + (__int128)begin * 1000000000;
    time->tv_sec = nanos / 1000000000;
    time->tv_nsec = nanos % 1000000000;
  }
  return done;
}
