/* Lets TorchTPU run on a PJRT plugin for the CPU: for tests and exports, never for a measurement.
 *
 * torch_tpu passes TPU options to PJRT_Client_Create that a CPU plugin refuses. This library gives
 * out the plugin's own API table with that one entry replaced by a call that drops the options.
 * Layout as in pjrt_c_api.h of PJRT 0.115: the table begins with its size in bytes, a header of
 * 40 bytes, then one pointer an entry, PJRT_Client_Create the tenth (from 0); its argument
 * structure keeps the number of options at byte 24.
 *
 * $PJRT_SHIM_REAL names the plugin. cc -shared -fPIC -o libpjrt_shim.so _pjrt_shim.c -ldl
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 40, CLIENT_CREATE = HEADER + 10 * sizeof(void *), NUM_OPTIONS = 24 };

typedef void *(*client_create)(void *);
static client_create real_create;

static void *create_without_options(void *arguments) {
  size_t none = 0;
  memcpy((char *)arguments + NUM_OPTIONS, &none, sizeof none);
  return real_create(arguments);
}

static void fail(const char *what) {
  fprintf(stderr, "pjrt shim: %s\n", what ? what : "unknown error");
  exit(3);
}

const void *GetPjrtApi(void) {
  static char *table;
  if (table) return table;
  const char *path = getenv("PJRT_SHIM_REAL");
  if (!path) fail("PJRT_SHIM_REAL is not set");
  void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!plugin) fail(dlerror());
  const void *(*get_api)(void) = (const void *(*)(void))dlsym(plugin, "GetPjrtApi");
  if (!get_api) fail(dlerror());
  const void *api = get_api();
  size_t size;
  memcpy(&size, api, sizeof size);
  table = malloc(size);
  if (!table) fail("out of memory");
  memcpy(table, api, size);
  memcpy(&real_create, table + CLIENT_CREATE, sizeof real_create);
  client_create mine = create_without_options;
  memcpy(table + CLIENT_CREATE, &mine, sizeof mine);
  return table;
}
