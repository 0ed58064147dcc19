// Mappings of a CMB (p2pmem/allocate or the controller's character device) and of page-aligned host memory.
// Everything here runs on the JS thread.
#include "mapping.h"

#include "engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace p2pdma {
namespace {

constexpr size_t kHugePage = 2u << 20;

size_t pageSize() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

size_t roundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

void settle(Mapping* m) {
  if (m->addr != nullptr && !m->heldByJs && m->inFlight == 0) {
    munmap(m->addr, m->length);
    m->addr = nullptr;
    Env& env = *m->env;
    env.counters.mappings--;
    env.counters.mappedBytes -= static_cast<int64_t>(m->length);
    env.mappings[m->id] = nullptr;
    env.freeMappings.push_back(m->id);
  }
  if (m->addr == nullptr && m->finalized) delete m;
}

void onFinalize(napi_env, void*, void* hint) {
  auto* m = static_cast<Mapping*>(hint);
  m->heldByJs = false;
  m->finalized = true;
  settle(m);
}

Napi::Value failure(Napi::Env env, int error, const char* syscall) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("errno", -error);
  out.Set("syscall", syscall);
  return out;
}

// Wraps new memory in an ArrayBuffer. If the runtime refuses (Electron, V8 sandbox), the memory is unmapped again.
Napi::Value give(Napi::Env napi, void* addr, size_t length, size_t bytes, bool huge) {
  EnvPtr env = envOf(napi);
  auto* m = new Mapping;
  m->env = env;
  m->addr = addr;
  m->length = length;
  napi_value buffer = nullptr;
  napi_status status = napi_create_external_arraybuffer(napi, addr, bytes, onFinalize, m, &buffer);
  if (status != napi_ok) {
    munmap(addr, length);
    delete m;
    bool pending = false;
    napi_is_exception_pending(napi, &pending);
    if (pending) {
      napi_value ignored;
      napi_get_and_clear_last_exception(napi, &ignored);
    }
    return failure(napi, EOPNOTSUPP, "napi_create_external_arraybuffer");
  }
  if (env->freeMappings.empty()) {
    m->id = static_cast<int>(env->mappings.size());
    env->mappings.push_back(m);
  } else {
    m->id = env->freeMappings.back();
    env->freeMappings.pop_back();
    env->mappings[m->id] = m;
  }
  env->counters.mappings++;
  env->counters.mappedBytes += static_cast<int64_t>(length);

  Napi::Object out = Napi::Object::New(napi);
  out.Set("buffer", Napi::Value(napi, buffer));
  out.Set("id", m->id);
  out.Set("address", static_cast<double>(reinterpret_cast<uintptr_t>(addr)));
  out.Set("huge", huge);
  return out;
}

// mapHost(bytes) takes reserved huge pages if there are any, otherwise transparent ones, otherwise ordinary pages.
Napi::Value mapHost(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  const int prot = PROT_READ | PROT_WRITE;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (bytes >= kHugePage) {
    size_t length = roundUp(bytes, kHugePage);
    void* addr = mmap(nullptr, length, prot, flags | MAP_HUGETLB, -1, 0);
    if (addr != MAP_FAILED) {
      madvise(addr, length, MADV_DONTFORK);
      return give(env, addr, length, bytes, true);
    }
    // The mapping is larger than asked for, so that an aligned part can be cut out of it.
    length = roundUp(bytes, pageSize());
    char* raw = static_cast<char*>(mmap(nullptr, length + kHugePage, prot, flags, -1, 0));
    if (raw != MAP_FAILED) {
      char* aligned = reinterpret_cast<char*>(roundUp(reinterpret_cast<uintptr_t>(raw), kHugePage));
      char* end = raw + length + kHugePage;
      if (aligned > raw) munmap(raw, static_cast<size_t>(aligned - raw));
      if (end > aligned + length) munmap(aligned + length, static_cast<size_t>(end - (aligned + length)));
      const bool huge = madvise(aligned, length, MADV_HUGEPAGE) == 0;
      madvise(aligned, length, MADV_DONTFORK);
      return give(env, aligned, length, bytes, huge);
    }
  }
  const size_t length = roundUp(bytes, pageSize());
  void* addr = mmap(nullptr, length, prot, flags, -1, 0);
  if (addr == MAP_FAILED) return failure(env, errno, "mmap");
  madvise(addr, length, MADV_DONTFORK);
  return give(env, addr, length, bytes, false);
}

// mapFile(path, bytes) maps with MAP_SHARED at offset 0, the only way in which the kernel gives out a CMB.
Napi::Value mapFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const size_t bytes = static_cast<size_t>(info[1].As<Napi::Number>().DoubleValue());
  const size_t length = roundUp(bytes, pageSize());
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return failure(env, errno, "open");
  void* addr = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int error = errno;
  close(fd);
  if (addr == MAP_FAILED) return failure(env, error, "mmap");
  madvise(addr, length, MADV_DONTFORK);
  return give(env, addr, length, bytes, false);
}

// unmap(id, buffer) detaches the buffer and calls munmap(2) as soon as no request uses it. False: it was unmapped already.
Napi::Value unmap(const Napi::CallbackInfo& info) {
  Napi::Env napi = info.Env();
  EnvPtr env = envOf(napi);
  const int id = info[0].As<Napi::Number>().Int32Value();
  Mapping* m = id >= 0 && id < static_cast<int>(env->mappings.size()) ? env->mappings[id] : nullptr;
  if (m == nullptr || !m->heldByJs) return Napi::Boolean::New(napi, false);
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_arraybuffer_info(napi, info[1], &data, &length) != napi_ok || data != m->addr) {
    return Napi::Boolean::New(napi, false);
  }
  // A request that is queued but not taken yet must count as a user, or it would use whatever is mapped here next.
  for (const auto& engine : env->engines) {
    if (engine) engine->take();
  }
  // If a buffer cannot be detached, JavaScript would look at unmapped memory: the mapping is kept. Bun and Deno run the
  // finalizer during the detach, so the mapping must still exist afterwards.
  m->inFlight++;
  const bool detached = napi_detach_arraybuffer(napi, info[1]) == napi_ok;
  m->inFlight--;
  if (detached) m->heldByJs = false;
  settle(m);
  return Napi::Boolean::New(napi, detached);
}

// addressOf(uint8Array) returns the address of the first byte of its ArrayBuffer; 0 if it is detached.
Napi::Value addressOf(const Napi::CallbackInfo& info) {
  napi_typedarray_type type;
  size_t length = 0;
  size_t offset = 0;
  void* data = nullptr;
  napi_value buffer;
  if (napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, &buffer, &offset) != napi_ok ||
      data == nullptr || length == 0) {
    return Napi::Number::New(info.Env(), 0);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(data) - offset));
}

// mappingAt(address) returns the id of the mapping that begins there, or -1. It finds the mapping of a buffer that was
// transferred (ArrayBuffer.prototype.transfer): the buffer is another one, the memory is still ours.
Napi::Value mappingAt(const Napi::CallbackInfo& info) {
  EnvPtr env = envOf(info.Env());
  const auto address = static_cast<uintptr_t>(info[0].As<Napi::Number>().DoubleValue());
  for (const Mapping* m : env->mappings) {
    if (m != nullptr && reinterpret_cast<uintptr_t>(m->addr) == address) return Napi::Number::New(info.Env(), m->id);
  }
  return Napi::Number::New(info.Env(), -1);
}

// externalBuffers() returns whether this runtime allows external ArrayBuffers.
Napi::Value externalBuffers(const Napi::CallbackInfo& info) {
  auto* bytes = new uint64_t[1]();  // V8 requires a different address for every backing store
  napi_value buffer;
  const napi_status status = napi_create_external_arraybuffer(
      info.Env(), bytes, sizeof(uint64_t),
      [](napi_env, void*, void* hint) { delete[] static_cast<uint64_t*>(hint); }, bytes, &buffer);
  if (status != napi_ok) {
    delete[] bytes;
    return Napi::Boolean::New(info.Env(), false);
  }
  napi_detach_arraybuffer(info.Env(), buffer);
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void retainMapping(Env& env, int id) {
  if (id < 0 || id >= static_cast<int>(env.mappings.size())) return;
  if (Mapping* m = env.mappings[id]) m->inFlight++;
}

void releaseMapping(Env& env, int id) {
  if (id < 0 || id >= static_cast<int>(env.mappings.size())) return;
  Mapping* m = env.mappings[id];
  if (m == nullptr || m->inFlight == 0) return;
  m->inFlight--;
  settle(m);
}

void initMapping(Napi::Env env, Napi::Object exports) {
  exports.Set("mapHost", Napi::Function::New(env, mapHost));
  exports.Set("mapFile", Napi::Function::New(env, mapFile));
  exports.Set("unmap", Napi::Function::New(env, unmap));
  exports.Set("addressOf", Napi::Function::New(env, addressOf));
  exports.Set("mappingAt", Napi::Function::New(env, mappingAt));
  exports.Set("externalBuffers", Napi::Function::New(env, externalBuffers));
}

}  // namespace p2pdma
