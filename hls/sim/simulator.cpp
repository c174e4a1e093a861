// The simulator: the accelerator's own functions, called in the order in which the hardware's processes would start
// the instructions, with the cycle model of timing.h. Plain C interface, see simulator.py.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>

#include "../fetch.h"
#include "legal.h"
#include "timing.h"

namespace {

using vta::Instruction;

enum Module { FETCH, LOADER, COMPUTER, STORER, MODULES };
const char* const NAMES[MODULES] = {"fetch", "load", "compute", "store"};

struct Registers {
  uint64_t count, program, uop, inp, wgt, acc, out, par;
};

struct Limits {
  uint64_t bytes_per_cycle, latency;
  uint64_t cycles;  // 0: as many as a program of that size may take
};

struct ModuleCounters {
  uint64_t instructions;
  uint64_t busy;         // cycles with an instruction at work
  uint64_t token_stall;  // cycles in which the next instruction waited for a token
  uint64_t fetch_stall;  // cycles without an instruction while the program was not over
  uint64_t bytes;        // over the bus
};

struct Counters {
  uint64_t cycles;
  uint64_t gemm_steps;
  uint64_t bus_busy;
  ModuleCounters module[MODULES];
};

struct Event {
  uint64_t ready, start, end;  // instruction here; tokens here; done
};

// Waiting tokens by the cycle in which they were given.
using Tokens = std::deque<uint64_t>;

struct Pending {
  Instruction instruction;
  uint64_t index;
  uint64_t time;
};

struct Process {
  std::deque<Pending> queue;
  bool held = false;  // has taken an instruction and waits for its tokens
  Pending command = {};
  uint64_t free_at = 0;
  uint64_t start = 0;
  uint64_t last_pop = 0;
  uint64_t turn = 0;
  bool confirm_writes = false;
  vta::RowTransfer transfer;
};

// On-chip memories; they keep their contents between runs.
struct Memories {
  uint32_t uop[vta::UOP_DEPTH];
  vta::Vector8 wgt[vta::WGT_DEPTH][vta::BLOCK];
  vta::Vector8 inp[vta::INP_DEPTH];
  vta::Vector32 acc[vta::ACC_DEPTH];
  vta::Vector8 out[vta::ACC_DEPTH];
  vta::Parameter par[vta::PAR_DEPTH];
};

class Run {
 public:
  Run(Memories& memories, const Registers& registers, uint8_t* dram, uint64_t bytes, const Limits& limits,
      Counters& counters, Event* events)
      : memories_(memories), registers_(registers), limits_(limits), counters_(counters), events_(events) {
    for (vta::Port::Dram& port : ports_) {
      std::memset(&port, 0, sizeof port);
      port.data = dram;
      port.beats = bytes / VTA_BUS_BYTES;
    }
    std::memset(&counters_, 0, sizeof counters_);
    limit_ = limits.cycles > 0 ? limits.cycles : vta::most_cycles(registers.count);
  }

  // False after an error; message() tells it.
  bool execute() {
    request_program(0);
    for (;;) {
      int next = -1;
      uint64_t time = 0;
      for (int module = FETCH; module < MODULES; ++module) {
        uint64_t at = 0;
        if (!next_time(module, at)) continue;
        if (next < 0 || at < time || (at == time && process_[module].turn < process_[next].turn)) {
          next = module;
          time = at;
        }
      }
      if (next < 0) break;
      if (time > limit_) return too_long();
      step(next, time);
      if (failed_) return false;
    }
    return finish();
  }

  const char* message() const { return message_; }

 private:
  static unsigned long long number(uint64_t value) { return value; }

  bool fail(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message_, sizeof message_, format, arguments);
    va_end(arguments);
    failed_ = true;
    return false;
  }

  bool too_long() { return fail("not finished after %llu cycles", number(limit_)); }

  vta::Timing timing() const { return {limits_.bytes_per_cycle, limits_.latency}; }

  // Fetch ------------------------------------------------------------------------------------------------------------

  // The next burst is requested while one is read.
  void request_program(uint64_t now) {
    if (fetched_ == registers_.count) return;
    vta::Cost cost;
    cost.rows = 1;
    cost.row_bytes =
        vta::INSTRUCTION_BYTES * uint64_t{vta::burst_length(static_cast<uint32_t>(registers_.count), fetched_)};
    process_[FETCH].transfer.begin(cost, timing(), now);
  }

  // One burst of instructions, as far as there are; they leave one after the other.
  void fetch_burst(uint64_t now) {
    const uint32_t count = static_cast<uint32_t>(registers_.count);
    const uint32_t length = vta::burst_length(count, fetched_);
    vta::Port port(&ports_[FETCH]);
    const uint64_t beat = registers_.program / VTA_BUS_BYTES + uint64_t{fetched_} * vta::INSTRUCTION_BEATS;
    port.read_request(beat, length * vta::INSTRUCTION_BEATS);
    if (!check_port(FETCH, fetched_)) return;
    for (uint32_t i = 0; i < length; ++i) {
      const Pending pending = {vta::read_instruction(port), fetched_ + i,
                               now + vta::divide_up((i + 1) * vta::INSTRUCTION_BYTES, limits_.bytes_per_cycle)};
      if (!vta::legal(pending.instruction)) {
        fail("instruction %llu is not defined", number(pending.index));
        return;
      }
      decoded_.push_back(pending);
    }
    fetched_ += length;
    counters_.module[FETCH].instructions += length;
    counters_.module[FETCH].bytes += length * vta::INSTRUCTION_BYTES;
    request_program(now);
  }

  Process& target(const Instruction& instruction) { return process_[LOADER + vta::queue_of(instruction)]; }

  // Scheduling -------------------------------------------------------------------------------------------------------

  // The queues that an instruction of a module pops and pushes.
  Tokens* popped(int module, bool next) { return tokens(module, next, true); }
  Tokens* pushed(int module, bool next) { return tokens(module, next, false); }

  Tokens* tokens(int module, bool next, bool pop) {
    const int other = next ? module + 1 : module - 1;
    if (other < LOADER || other > STORER) return nullptr;
    return pop ? &tokens_[other][module] : &tokens_[module][other];
  }

  // When a module does its next step; false if it waits for another one.
  bool next_time(int module, uint64_t& time) {
    Process& process = process_[module];
    if (module == FETCH && !decoded_.empty()) {
      const Process& receiver = target(decoded_.front().instruction);
      time = std::max(decoded_.front().time, receiver.last_pop);
      return receiver.queue.size() < vta::QUEUE_DEPTH;
    }
    if (process.transfer.active()) {
      time = std::max(process.transfer.ready(), bus_.free_at);
      return true;
    }
    if (process.held) {
      time = process.command.time;
      return tokens_here(module, process.command.instruction, time);
    }
    if (process.queue.empty()) return false;
    time = std::max(process.free_at, process.queue.front().time);
    return true;
  }

  bool tokens_here(int module, const Instruction& instruction, uint64_t& time) {
    const bool pops[2] = {vta::pops_previous(instruction), vta::pops_next(instruction)};
    for (int next = 0; next < 2; ++next) {
      const Tokens* queue = popped(module, next == 1);
      if (!pops[next] || queue == nullptr) continue;
      if (queue->empty()) return false;
      time = std::max(time, queue->front());
    }
    return true;
  }

  void step(int module, uint64_t time) {
    Process& process = process_[module];
    if (module == FETCH && !decoded_.empty()) {
      Pending pending = decoded_.front();
      decoded_.pop_front();
      pending.time = time + 1;
      target(pending.instruction).queue.push_back(pending);
    } else if (process.transfer.active()) {
      process.turn = ++bus_.turns;
      process.transfer.advance(bus_, time);
      if (module == FETCH) fetch_burst(time);
      if (module != FETCH && !process.transfer.active()) complete(module, process.transfer.end());
      if (process.transfer.confirmed() > last_write_) last_write_ = process.transfer.confirmed();
    } else if (process.held) {
      begin(module, time);
    } else {
      process.command = process.queue.front();
      process.queue.pop_front();
      process.held = true;
      process.last_pop = time;
      counters_.module[module].fetch_stall += time - process.free_at;
      process.command.time = time;
    }
  }

  void begin(int module, uint64_t time) {
    Process& process = process_[module];
    const Instruction& instruction = process.command.instruction;
    if (vta::pops_previous(instruction) && popped(module, false)) popped(module, false)->pop_front();
    if (vta::pops_next(instruction) && popped(module, true)) popped(module, true)->pop_front();
    counters_.module[module].token_stall += time - process.command.time;
    process.start = time;
    const vta::Cost cost = vta::cost_of(instruction);
    if (vta::least_cycles(cost) > limit_ - time) {  // before it is executed, which takes long
      too_long();
      return;
    }
    run_body(module, instruction);
    if (!check_port(module, process.command.index)) return;
    counters_.gemm_steps += cost.steps;
    counters_.module[module].bytes += cost.rows * cost.row_bytes;
    if (cost.rows > 0) {
      process.transfer.begin(cost, timing(), time);
    } else {
      complete(module, time + cost.cycles + cost.tail);
    }
  }

  // The accelerator itself.
  void run_body(int module, const Instruction& instruction) {
    vta::Port port(&ports_[module]);
    Memories& m = memories_;
    if (module == LOADER) {
      vta::load_instruction(instruction, port, {registers_.inp, registers_.wgt, registers_.par}, m.inp, m.wgt, m.par);
    } else if (module == COMPUTER) {
      vta::compute_instruction(instruction, port, {registers_.uop, registers_.acc}, m.uop, m.acc, m.inp, m.wgt, m.par,
                               m.out);
    } else {
      vta::store_instruction(instruction, port, registers_.out, m.out, pending_writes_);
    }
  }

  void complete(int module, uint64_t end) {
    Process& process = process_[module];
    const Instruction& instruction = process.command.instruction;
    const bool pushes[2] = {vta::pushes_previous(instruction), vta::pushes_next(instruction)};
    for (int next = 0; next < 2; ++next) {
      Tokens* queue = pushed(module, next == 1);
      if (!pushes[next] || queue == nullptr) continue;
      if (queue->size() == vta::TOKEN_DEPTH) {
        fail("instruction %llu: more than %d tokens wait from %s to %s", number(process.command.index),
             vta::TOKEN_DEPTH, NAMES[module], NAMES[next == 1 ? module + 1 : module - 1]);
        return;
      }
      queue->push_back(end);
    }
    counters_.module[module].instructions += 1;
    counters_.module[module].busy += end - process.start;
    if (events_ != nullptr) events_[process.command.index] = {process.command.time, process.start, end};
    process.free_at = end;
    process.held = false;
  }

  bool check_port(int module, uint64_t index) {
    if (!ports_[module].fault) return true;
    return fail("instruction %llu: %s at byte %llu is outside of the DRAM of %llu bytes", number(index), NAMES[module],
                number(ports_[module].fault_beat * VTA_BUS_BYTES), number(ports_[module].beats * VTA_BUS_BYTES));
  }

  // Nothing can happen any more: the end, or a deadlock.
  bool finish() {
    for (int module = LOADER; module < MODULES; ++module) {
      const Process& process = process_[module];
      if (!process.held) continue;
      const char* from = "compute";
      if (module == COMPUTER) {
        const bool load = vta::pops_previous(process.command.instruction) && popped(module, false)->empty();
        from = load ? "load" : "store";
      }
      return fail("deadlock: instruction %llu (%s) waits for a token from %s that nothing gives",
                  number(process.command.index), NAMES[module], from);
    }
    for (int from = LOADER; from < MODULES; ++from) {
      for (int to = LOADER; to < MODULES; ++to) {
        const size_t left = tokens_[from][to].size();
        if (left > 0)
          return fail("%d tokens from %s to %s are left at the end", static_cast<int>(left), NAMES[from], NAMES[to]);
      }
    }
    counters_.cycles = last_write_;
    for (const Process& process : process_) counters_.cycles = std::max(counters_.cycles, process.free_at);
    if (counters_.cycles > limit_) return too_long();
    counters_.bus_busy = bus_.busy;
    counters_.module[FETCH].busy = 0;
    return true;
  }

  Memories& memories_;
  const Registers registers_;
  const Limits limits_;
  uint64_t limit_;
  Counters& counters_;
  Event* events_;
  vta::Port::Dram ports_[MODULES];
  Process process_[MODULES];
  Tokens tokens_[MODULES][MODULES];  // [from][to]
  vta::Bus bus_;
  std::deque<Pending> decoded_;
  uint32_t fetched_ = 0;
  uint32_t pending_writes_ = 0;
  uint64_t last_write_ = 0;
  bool failed_ = false;
  char message_[256] = "";
};

}  // namespace

extern "C" {

Memories* vta_create() { return new Memories(); }

void vta_destroy(Memories* memories) { delete memories; }

// The contents of a memory, numbered as in an instruction, as they lie in DRAM; null if there is none.
void* vta_memory(Memories* memories, uint32_t memory) {
  switch (memory) {
    case vta::UOP: return memories->uop;
    case vta::WGT: return memories->wgt;
    case vta::INP: return memories->inp;
    case vta::ACC: return memories->acc;
    case vta::OUT: return memories->out;
    case vta::PAR: return memories->par;
    default: return nullptr;
  }
}

// Runs a program. 0, or 1 after an error with its text in message (256 bytes). events: one per instruction, or null.
int vta_run(Memories* memories, const Registers* registers, uint8_t* dram, uint64_t bytes, const Limits* limits,
            Counters* counters, Event* events, char* message) {
  const std::unique_ptr<Run> run(new Run(*memories, *registers, dram, bytes, *limits, *counters, events));
  if (run->execute()) return 0;
  std::memcpy(message, run->message(), 256);
  return 1;
}

}  // extern "C"
