// The accelerator's four processes, each on a thread, with their queues: what the dataflow region of vta.cpp is.
// Usage: processes DRAM-FILE COUNT PROGRAM UOP INP WGT ACC OUT PAR; the file is changed in place.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "compute.h"
#include "fetch.h"
#include "load.h"
#include "store.h"

struct Core {
  vta::CommandQueue load_queue, compute_queue, store_queue;
  vta::TokenQueue load_to_compute, compute_to_load, compute_to_store, store_to_compute;
  vta::Vector8 inp[vta::INP_DEPTH];
  vta::Vector8 wgt[vta::WGT_DEPTH][vta::BLOCK];
  vta::Parameter par[vta::PAR_DEPTH];
  vta::Vector8 out[vta::ACC_DEPTH];
};

int main(int count, char** arguments) {
  if (count != 10) return 2;
  std::FILE* file = std::fopen(arguments[1], "r+b");
  if (file == nullptr) return 2;
  std::vector<uint8_t> dram;
  uint8_t buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) dram.insert(dram.end(), buffer, buffer + n);
  uint64_t registers[8];
  for (int i = 0; i < 8; ++i) registers[i] = std::strtoull(arguments[2 + i], nullptr, 10);

  vta::Port::Dram ports[4];
  for (vta::Port::Dram& port : ports) {
    std::memset(&port, 0, sizeof port);
    port.data = dram.data();
    port.beats = dram.size() / VTA_BUS_BYTES;
  }
  const std::unique_ptr<Core> holder(new Core());
  Core& core = *holder;
  std::thread fetch([&] {
    vta::fetch(vta::Port(&ports[0]), static_cast<uint32_t>(registers[0]), registers[1], core.load_queue,
               core.compute_queue, core.store_queue);
  });
  std::thread load([&] {
    vta::load(vta::Port(&ports[1]), registers[3], registers[4], registers[7], core.load_queue, core.compute_to_load,
              core.load_to_compute, core.inp, core.wgt, core.par);
  });
  std::thread compute([&] {
    vta::compute(vta::Port(&ports[2]), registers[2], registers[5], core.compute_queue, core.load_to_compute,
                 core.store_to_compute, core.compute_to_load, core.compute_to_store, core.inp, core.wgt, core.par,
                 core.out);
  });
  std::thread store([&] {
    vta::store(vta::Port(&ports[3]), registers[6], core.store_queue, core.compute_to_store, core.store_to_compute,
               core.out);
  });
  fetch.join();
  load.join();
  compute.join();
  store.join();
  for (const vta::Port::Dram& port : ports) {
    if (port.fault) return 1;
  }
  std::rewind(file);
  const bool written = std::fwrite(dram.data(), 1, dram.size(), file) == dram.size();
  return std::fclose(file) == 0 && written ? 0 : 1;
}
