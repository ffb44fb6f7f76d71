/* Puts a program together from compressed parts, and becomes it: injector FOLDER PROGRAM ARGUMENT...
 * FOLDER has the parts, whose names are numbers from 100 on. Stands for the injectors of other tools. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

static unsigned char in[1 << 16], out[1 << 18];

int main(int count, char **words) {
  if (count < 3) return 2;
  int program = memfd_create("program", MFD_CLOEXEC);
  z_stream stream = {0};
  if (program < 0 || inflateInit2(&stream, 15 + 16) != Z_OK) return 3;
  for (int part = 100;; part++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", words[1], part);
    int file = open(path, O_RDONLY);
    if (file < 0) break;
    ssize_t length;
    while ((length = read(file, in, sizeof in)) > 0) {
      stream.next_in = in;
      stream.avail_in = length;
      while (stream.avail_in) {
        stream.next_out = out;
        stream.avail_out = sizeof out;
        int state = inflate(&stream, Z_NO_FLUSH);
        if (state != Z_OK && state != Z_STREAM_END) return 4;
        size_t made = sizeof out - stream.avail_out;
        for (size_t at = 0; at < made;) {
          ssize_t written = write(program, out + at, made - at);
          if (written < 0) return 5;
          at += written;
        }
        if (state == Z_STREAM_END) break;
      }
    }
    close(file);
  }
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", program);
  char *none[] = {NULL};
  execve(path, words + 2, none);
  perror(path);
  return 6;
}
