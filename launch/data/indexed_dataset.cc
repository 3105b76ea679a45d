#include "launch/data/indexed_dataset.h"

#include <sys/mman.h>

#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "launch/data/indexed_dataset_format.h"
#include "launch/data/mapped_file.h"
#include "launch/data/token_ids.h"

namespace witan {
namespace {

using indexed_dataset::kHeaderBytes;
using indexed_dataset::TokenType;

TokenType checked_token_type(std::uint8_t code, const std::string& file) {
  const auto type = static_cast<TokenType>(code);
  if (indexed_dataset::bytes_of(type) != 0) return type;
  throw_user_error(file, ": token type ", int{code},
                   " (byte 17), expected 1, 2, 3, 4, 5 or 8 (uint8, int8, int16, int32, int64, "
                   "uint16)");
}

}  // namespace

struct IndexedDataset::Impl {
  explicit Impl(const std::string& path_prefix)
      : prefix(path_prefix),
        bin_file(prefix + ".bin"),
        index(prefix + ".idx", MADV_SEQUENTIAL),
        bin(bin_file, MADV_RANDOM) {
    check_header();
    check_sequences();
    check_documents();
  }

  std::string index_file() const { return prefix + ".idx"; }
  std::int32_t length(std::int64_t sequence) const {
    return index.load<std::int32_t>(lengths_at + 4 * static_cast<std::size_t>(sequence));
  }
  std::int64_t offset(std::int64_t sequence) const {
    return index.load<std::int64_t>(offsets_at + 8 * static_cast<std::size_t>(sequence));
  }
  std::int64_t document_mark(std::int64_t document) const {
    return index.load<std::int64_t>(marks_at + 8 * static_cast<std::size_t>(document));
  }

  void check_header();
  void check_sequences();
  void check_documents() const;

  std::string prefix, bin_file;
  MappedFile index;
  MappedFile bin;
  TokenType type = TokenType::kInt32;
  std::int64_t sequences = 0, documents = 0, tokens = 0;
  std::size_t lengths_at = 0, offsets_at = 0, marks_at = 0;
};

void IndexedDataset::Impl::check_header() {
  const std::string file = index_file();
  if (index.size() < kHeaderBytes)
    throw_user_error(file, ": ", index.size(), " bytes, expected at least the ", kHeaderBytes,
                     " of a header: the file is truncated or not a Megatron-LM index");
  if (std::memcmp(index.data(), indexed_dataset::kMagic.data(), indexed_dataset::kMagic.size()) !=
      0)
    throw_user_error(file, ": does not begin with MMIDIDX: not a Megatron-LM index");
  const auto version = index.load<std::uint64_t>(9);
  if (version != indexed_dataset::kVersion)
    throw_user_error(file, ": version ", version, ", expected ", indexed_dataset::kVersion);
  type = checked_token_type(index.load<std::uint8_t>(17), file);

  const auto sequence_count = index.load<std::uint64_t>(18);
  const auto mark_count = index.load<std::uint64_t>(26);
  // Counts beyond the file's own size are refused first, so that the sum below cannot overflow.
  const bool plausible = sequence_count <= index.size() && mark_count <= index.size();
  const std::uint64_t expected =
      plausible ? kHeaderBytes + 12 * sequence_count + 8 * mark_count : 0;
  if (!plausible || expected != index.size())
    throw_user_error(file, ": ", index.size(), " bytes, but its header counts ", sequence_count,
                     " sequences and ", mark_count, " document marks",
                     plausible ? detail::concat(", which take ", expected, " bytes") : "",
                     ": the file is truncated, corrupt or multimodal");
  if (mark_count == 0) throw_user_error(file, ": no document marks, expected at least one");
  sequences = static_cast<std::int64_t>(sequence_count);
  documents = static_cast<std::int64_t>(mark_count) - 1;
  lengths_at = kHeaderBytes;
  offsets_at = lengths_at + 4 * sequence_count;
  marks_at = offsets_at + 8 * sequence_count;
}

// Sequences follow each other without gaps, as every version of Megatron-LM writes them; so the
// dataset is one array of tokens.
void IndexedDataset::Impl::check_sequences() {
  const std::int64_t width = indexed_dataset::bytes_of(type);
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::int32_t tokens_here = length(s);
    if (tokens_here < 0)
      throw_user_error(index_file(), ": sequence ", s, " has the negative length ", tokens_here);
    const std::int64_t found = offset(s);
    if (found != tokens * width)
      throw_user_error(index_file(), ": sequence ", s, " begins at byte ", found, " of ", prefix,
                       ".bin, expected ", tokens * width, " (the end of the sequence before it)");
    tokens += tokens_here;
  }
  const auto bin_bytes = static_cast<std::int64_t>(bin.size());
  if (tokens * width != bin_bytes)
    throw_user_error(prefix, ".bin: ", bin_bytes, " bytes, but ", index_file(), " counts ", tokens,
                     " tokens of ", width, " bytes, ", tokens * width, " bytes in all: one of the ",
                     "two is ", bin_bytes < tokens * width ? "truncated" : "not its partner");
}

void IndexedDataset::Impl::check_documents() const {
  std::int64_t before = 0;
  for (std::int64_t d = 0; d <= documents; ++d) {
    const std::int64_t mark = document_mark(d);
    const bool good = d == 0 ? mark == 0 : mark >= before;
    if (!good || mark > sequences)
      throw_user_error(index_file(), ": document mark ", d, " is ", mark, ", expected ",
                       d == 0 ? "0" : detail::concat(before, " to ", sequences));
    before = mark;
  }
  if (before != sequences)
    throw_user_error(index_file(), ": the last document ends at sequence ", before, ", expected ",
                     sequences, ", the number of sequences");
}

IndexedDataset::IndexedDataset(const std::string& prefix) : impl_(std::make_unique<Impl>(prefix)) {}
IndexedDataset::~IndexedDataset() = default;
IndexedDataset::IndexedDataset(IndexedDataset&&) noexcept = default;
IndexedDataset& IndexedDataset::operator=(IndexedDataset&&) noexcept = default;

const std::string& IndexedDataset::prefix() const { return impl_->prefix; }
std::int64_t IndexedDataset::documents() const { return impl_->documents; }
std::int64_t IndexedDataset::sequences() const { return impl_->sequences; }
std::int64_t IndexedDataset::tokens() const { return impl_->tokens; }
int IndexedDataset::bytes_per_token() const { return indexed_dataset::bytes_of(impl_->type); }

std::int64_t IndexedDataset::sequence_begin(std::int64_t sequence) const {
  WITAN_CHECK(sequence >= 0 && sequence < sequences(), "sequence ", sequence, " of ", sequences());
  return impl_->offset(sequence) / bytes_per_token();
}

std::int64_t IndexedDataset::sequence_length(std::int64_t sequence) const {
  WITAN_CHECK(sequence >= 0 && sequence < sequences(), "sequence ", sequence, " of ", sequences());
  return impl_->length(sequence);
}

void IndexedDataset::read(std::int64_t begin, std::span<std::int32_t> out,
                          std::int64_t vocab) const {
  const auto count = static_cast<std::int64_t>(out.size());
  WITAN_CHECK(begin >= 0 && begin + count <= tokens(), prefix(), ": tokens [", begin, ", ",
              begin + count, ") of ", tokens());
  WITAN_CHECK(vocab <= std::int64_t{std::numeric_limits<std::int32_t>::max()} + 1, "vocabulary of ",
              vocab);
  const std::byte* data = impl_->bin.data();
  const std::string& file = impl_->bin_file;
  switch (impl_->type) {
    case TokenType::kUint8: return read_token_ids<std::uint8_t>(data, begin, out, vocab, file);
    case TokenType::kInt8: return read_token_ids<std::int8_t>(data, begin, out, vocab, file);
    case TokenType::kInt16: return read_token_ids<std::int16_t>(data, begin, out, vocab, file);
    case TokenType::kUint16: return read_token_ids<std::uint16_t>(data, begin, out, vocab, file);
    case TokenType::kInt32: return read_token_ids<std::int32_t>(data, begin, out, vocab, file);
    case TokenType::kInt64: return read_token_ids<std::int64_t>(data, begin, out, vocab, file);
  }
}

}  // namespace witan
