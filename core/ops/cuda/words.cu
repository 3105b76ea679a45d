#include "core/ops/cuda/words.h"

#include <algorithm>
#include <cstring>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"

namespace witan::ops::cuda {
namespace {

constexpr std::size_t kBytes = 2048;  // of one launch, of the 4 KiB that arguments may take

template <class Word>
struct Words {
  Word value[kBytes / sizeof(Word)];
};

template <class Word>
__global__ void upload_words_kernel(Words<Word> words, int count, Word* to) {
  const int stride = static_cast<int>(blockDim.x);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += stride) to[i] = words.value[i];
}

template <class Word>
void upload(const Context& ctx, const std::byte* from, std::size_t words, Word* to) {
  constexpr std::size_t kWords = kBytes / sizeof(Word);
  for (std::size_t begin = 0; begin < words; begin += kWords) {
    const std::size_t count = std::min(kWords, words - begin);
    Words<Word> part{};
    std::memcpy(part.value, from + begin * sizeof(Word), count * sizeof(Word));
    launch(upload_words_kernel<Word>, dim3(1), dim3(kFlatThreads), 0, ctx.stream, part,
           static_cast<int>(count), to + begin);
  }
}

}  // namespace

void upload_words(const Context& ctx, std::span<const std::int64_t> words, std::int64_t* to) {
  upload(ctx, reinterpret_cast<const std::byte*>(words.data()), words.size(), to);
}

void upload_bytes(const Context& ctx, const std::byte* from, std::size_t bytes, void* to) {
  upload(ctx, from, bytes / sizeof(std::int32_t), static_cast<std::int32_t*>(to));
}

}  // namespace witan::ops::cuda
