// The matrix product on AMX tiles (amx_tiles.h). One operand, the resident one, is packed as a
// block that stays in the L2 cache (2 MiB on Sapphire Rapids, the first CPU with AMX); the other
// streams past it in panels of 32 lines, each packed into the L1 cache and used at once. Arithmetic
// is so fast that reading memory decides: while a panel is used, the next one is fetched.
#include "core/ops/cpu/amx_tiles.h"
#include "core/ops/cpu/gemm_bf16_kernels.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr std::int64_t kPanel = 32;    // rows or columns of C in a panel
constexpr std::int64_t kStripe = 128;  // rows or columns of C packed at a time: whole cache lines
constexpr std::int64_t kBlockTerms = 512;
constexpr std::int64_t kResident = 1024;  // rows or columns of C in the resident block

// Brings the share `part` of `parts` of a panel into the L2 cache.
template <class V>
void fetch(const OperandOf<V>& from, std::int64_t line, std::int64_t lines, std::int64_t term,
           std::int64_t terms, std::int64_t part, std::int64_t parts) {
  constexpr std::int64_t kCacheLine = 64 / sizeof(V);
  const std::int64_t rows = from.terms_apart ? terms : lines;
  const std::int64_t width = from.terms_apart ? lines : terms;
  for (std::int64_t r = rows * part / parts; r < rows * (part + 1) / parts; ++r) {
    const V* row = from.at(line, term) + r * from.ld;
    for (std::int64_t i = 0; i < width; i += kCacheLine) __builtin_prefetch(row + i, 0, 2);
  }
}

// Everything over one block of terms and one block of the resident operand.
template <class Task, class R, class S>
struct Block {
  const Task& task;
  OperandOf<R> resident;
  OperandOf<S> streamed;
  std::int64_t first, lines;  // of the resident operand
  std::int64_t term, terms;
  Value* packed;
  Value* stripe;
  bool past_cache;  // C is written without being read into the cache first
};

// c [32, 32] = a b by stores that bypass the cache.
void multiply_past_cache(std::int64_t chunks, PackedLines a, PackedLines b, float* c,
                         std::int64_t ldc) {
  alignas(64) float sums[kPanel * kPanel];
  multiply<2, 2>(chunks, a, b, sums, kPanel, false);
  for (std::int64_t i = 0; i < kPanel; ++i) {
    for (std::int64_t j = 0; j < kPanel; j += kTile) {
      _mm512_stream_ps(c + i * ldc + j, _mm512_load_ps(sums + i * kPanel + j));
    }
  }
}

// Two panels past each other: line r of the resident block, line s of the streamed operand.
template <class Task, class R, class S>
void multiply_panels(const Block<Task, R, S>& block, std::int64_t r, std::int64_t s,
                     std::int64_t streamed, const Value* panel) {
  const Task& task = block.task;
  const bool a_resident = block.resident.is_a;
  const std::int64_t chunks = ceil_div(block.terms, kTerms);
  const Value* packed = block.packed + r * chunks * kTerms;
  const std::int64_t resident = smaller(kPanel, block.lines - r);
  const std::int64_t i = a_resident ? block.first + r : s;
  const std::int64_t j = a_resident ? s : block.first + r;
  const PackedLines fixed{packed, chunks * kPacked};
  const PackedLines passing{panel, chunks * kPacked};
  const std::int64_t rows = a_resident ? resident : streamed;
  const std::int64_t columns = a_resident ? streamed : resident;
  const PackedLines& left = a_resident ? fixed : passing;
  const PackedLines& right = a_resident ? passing : fixed;
  float* c = task.c + i * task.ldc + j;
  if (block.past_cache && rows == kPanel && columns == kPanel) {
    return multiply_past_cache(chunks, left, right, c, task.ldc);
  }
  multiply_block(rows, columns, chunks, left, right, c, task.ldc,
                 task.accumulate || block.term > 0);
}

template <class Task, class R, class S>
void run_block(const Block<Task, R, S>& block) {
  const std::int64_t chunks = ceil_div(block.terms, kTerms);
  const std::int64_t end = block.resident.is_a ? block.task.n : block.task.m;
  const std::int64_t width = block.streamed.terms_apart ? kStripe : kPanel;
  pack(block.resident, block.first, block.lines, block.term, block.terms, block.packed);
  for (std::int64_t stripe = 0; stripe < end; stripe += width) {
    const std::int64_t lines = smaller(width, end - stripe);
    pack(block.streamed, stripe, lines, block.term, block.terms, block.stripe);
    const std::int64_t next = stripe + width;
    const std::int64_t next_lines = smaller(width, end - next);
    const std::int64_t parts = ceil_div(lines, kPanel) * ceil_div(block.lines, kPanel);
    std::int64_t part = 0;
    for (std::int64_t s = 0; s < lines; s += kPanel) {
      for (std::int64_t r = 0; r < block.lines; r += kPanel, ++part) {
        if (next_lines > 0) {
          fetch(block.streamed, next, next_lines, block.term, block.terms, part, parts);
        }
        multiply_panels(block, r, stripe + s, smaller(kPanel, lines - s),
                        block.stripe + s * chunks * kTerms);
      }
    }
  }
}

template <class Task, class R, class S>
void run_blocks(const Task& task, const OperandOf<R>& resident, const OperandOf<S>& streamed,
                float* workspace) {
  const std::int64_t lines = resident.is_a ? task.m : task.n;
  const std::int64_t blocks = ceil_div(lines, kResident);
  const std::int64_t block_lines = ceil_div(ceil_div(lines, blocks), kTile) * kTile;
  auto* packed = reinterpret_cast<Value*>(workspace);
  Value* stripe = packed + kBlockTerms * kResident;
  const bool past_cache = is_past_cache(task, kBlockTerms);
  for (std::int64_t first = 0; first < lines; first += block_lines) {
    for (std::int64_t term = 0; term < task.k; term += kBlockTerms) {
      run_block(Block<Task, R, S>{task, resident, streamed, first,
                                  smaller(block_lines, lines - first), term,
                                  smaller(kBlockTerms, task.k - term), packed, stripe, past_cache});
    }
  }
  if (past_cache) _mm_sfence();  // before other threads are told that C is there
}

}  // namespace

template <class A, class B>
void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace) {
  for (std::int64_t i = 0; i < task.m && task.k == 0 && !task.accumulate; ++i) {
    std::memset(task.c + i * task.ldc, 0, static_cast<std::size_t>(task.n) * sizeof(float));
  }
  const OperandOf<A> a{task.a, task.lda, task.a_transposed, true};
  const OperandOf<B> b{task.b, task.ldb, !task.b_transposed, false};
  // With B resident, the rows of C are written one panel of A after the other. With A resident they
  // are written in pieces, again and again, which is worth while where A is small.
  constexpr std::int64_t kFewRows = 32;
  const bool a_resident = !a.terms_apart && !b.terms_apart && task.m <= kFewRows;
  _tile_loadconfig(&kTileConfig);
  if (a_resident) {
    run_blocks(task, a, b, workspace);
  } else {
    run_blocks(task, b, a, workspace);
  }
  _tile_release();
}

template void gemm_bf16(const GemmTask<float, float, float>&, float*);
template void gemm_bf16(const GemmTask<float, float, Bfloat16>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, float>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, Bfloat16>&, float*);

}  // namespace witan::cpu::WITAN_ISA
