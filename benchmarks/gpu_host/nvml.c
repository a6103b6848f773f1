/* libnvidia-ml.so.1 for one GPU, as scripted: what nvidia-ml-py loads where there is no driver.

   The file that $NVML_SCRIPT names is read at each call. Its lines are "function code value…"; a
   function that no line names answers NVML_ERROR_NOT_SUPPORTED, but for what finds the GPU. A value
   +N is N more at each call. With -DOLDER what older drivers lack is not there at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
static int calls;

/* The code of a function and, where the line has one, its value, or the default. */
static int answer(const char* function, char* value, size_t size, int otherwise) {
  char line[4096];
  const char* path = getenv("NVML_SCRIPT");
  FILE* script = path ? fopen(path, "rb") : NULL;
  int code = otherwise;
  size_t length = strlen(function);
  calls++;
  if (value && size) value[0] = 0;
  while (script && fgets(line, sizeof line, script)) {
    char* rest;
    if (strncmp(line, function, length) || line[length] != ' ') continue;
    code = (int)strtol(line + length, &rest, 10);
    while (*rest == ' ') rest++;
    rest[strcspn(rest, "\n")] = 0;
    if (value) snprintf(value, size, "%s", rest);
  }
  if (script) fclose(script);
  return code;
}

static int number(const char* function, unsigned long long* value) {
  char text[4096];
  int code = answer(function, text, sizeof text, NOT_SUPPORTED);
  *value = strtoull(text, NULL, 10);
  if (text[0] == '+') *value *= (unsigned long long)calls;
  return code;
}

static int unsigned_number(const char* function, unsigned* value) {
  unsigned long long wide;
  int code = number(function, &wide);
  *value = (unsigned)wide;
  return code;
}

const char* nvmlErrorString(int code) {
  static char text[64];
  snprintf(text, sizeof text, "scripted error %d", code);
  return text;
}
int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return answer("nvmlInitWithFlags", NULL, 0, SUCCESS);
}
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  return answer("nvmlSystemGetDriverVersion", text, size, NOT_SUPPORTED);
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 1;
  return answer("nvmlDeviceGetCount_v2", NULL, 0, SUCCESS);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = &calls;
  return index ? NOT_FOUND : answer("nvmlDeviceGetHandleByIndex_v2", NULL, 0, SUCCESS);
}
int nvmlDeviceGetUUID(void* handle, char* text, unsigned size) {
  (void)handle;
  return answer("nvmlDeviceGetUUID", text, size, NOT_SUPPORTED);
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  char known[256];
  *handle = &calls;
  if (answer("nvmlDeviceGetUUID", known, sizeof known, NOT_SUPPORTED)) return NOT_FOUND;
  return strcmp(uuid, known) ? NOT_FOUND : answer("nvmlDeviceGetHandleByUUID", NULL, 0, SUCCESS);
}
int nvmlDeviceGetName(void* handle, char* text, unsigned size) {
  (void)handle;
  return answer("nvmlDeviceGetName", text, size, NOT_SUPPORTED);
}
int nvmlDeviceGetComputeMode(void* handle, unsigned* mode) {
  (void)handle;
  return unsigned_number("nvmlDeviceGetComputeMode", mode);
}
int nvmlDeviceGetPowerManagementLimit(void* handle, unsigned* milliwatts) {
  (void)handle;
  return unsigned_number("nvmlDeviceGetPowerManagementLimit", milliwatts);
}
int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) {
  (void)handle;
  return unsigned_number("nvmlDeviceGetPowerUsage", milliwatts);
}
int nvmlDeviceGetMaxClockInfo(void* handle, unsigned clock, unsigned* mhz) {
  (void)handle, (void)clock;
  return unsigned_number("nvmlDeviceGetMaxClockInfo", mhz);
}
int nvmlDeviceGetClockInfo(void* handle, unsigned clock, unsigned* mhz) {
  (void)handle, (void)clock;
  return unsigned_number("nvmlDeviceGetClockInfo", mhz);
}
int nvmlDeviceGetTemperature(void* handle, unsigned sensor, unsigned* celsius) {
  (void)handle, (void)sensor;
  return unsigned_number("nvmlDeviceGetTemperature", celsius);
}
#ifndef OLDER
int nvmlDeviceGetMigMode(void* handle, unsigned* current, unsigned* pending) {
  (void)handle;
  *pending = 0;
  return unsigned_number("nvmlDeviceGetMigMode", current);
}
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
  (void)handle;
  return number("nvmlDeviceGetTotalEnergyConsumption", millijoules);
}
int nvmlDeviceGetCurrentClocksEventReasons(void* handle, unsigned long long* reasons) {
  (void)handle;
  return number("nvmlDeviceGetCurrentClocksEventReasons", reasons);
}
struct field {
  unsigned id, scope;
  long long timestamp, latency;
  int type, code;
  unsigned long long value;
};
int nvmlDeviceGetFieldValues(void* handle, int count, struct field* fields) {
  char text[4096];
  int code = answer("nvmlDeviceGetFieldValues", text, sizeof text, NOT_SUPPORTED);
  (void)handle;
  for (int i = 0; i < count; i++) {
    char known[32], *at;
    snprintf(known, sizeof known, "%u=", fields[i].id);
    at = strstr(text, known);
    fields[i].code = at ? SUCCESS : NOT_SUPPORTED;
    fields[i].value = at ? strtoull(at + strlen(known), NULL, 10) : 0;
  }
  return code;
}
#endif
