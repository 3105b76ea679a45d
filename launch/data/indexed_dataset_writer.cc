#include "launch/data/indexed_dataset_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"

namespace witan {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

// Buffers small values on their way into a file.
class ValueWriter {
 public:
  explicit ValueWriter(const FileDescriptor& file) : file_(file) { bytes_.reserve(kBufferBytes); }

  template <class T>
  void put(T value) {
    put_bytes(&value, sizeof(T));
  }
  void put_bytes(const void* data, std::size_t size) {
    if (bytes_.size() + size > kBufferBytes) flush();
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
  }
  void flush() {
    file_.write(bytes_);
    bytes_.clear();
  }

 private:
  const FileDescriptor& file_;
  std::vector<std::byte> bytes_;
};

void remove_if_there(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
}

}  // namespace

IndexedDatasetWriter::IndexedDatasetWriter(const std::string& prefix, std::int64_t vocab_size,
                                           std::int64_t max_sequence_tokens)
    : prefix_(prefix),
      vocab_size_(vocab_size),
      max_sequence_tokens_(max_sequence_tokens),
      type_(indexed_dataset::token_type_for(vocab_size)) {
  WITAN_CHECK(vocab_size > 0 && max_sequence_tokens > 0, "vocabulary of ", vocab_size,
              ", sequences of at most ", max_sequence_tokens, " tokens");
  std::error_code failure;
  const std::string folder = parent_folder(prefix);
  std::filesystem::create_directories(folder, failure);
  if (failure) throw_user_error(folder, ": cannot be made: ", failure.message());
  bin_ = FileDescriptor::create(prefix_ + ".bin.tmp");
  buffer_.reserve(kBufferBytes);
}

IndexedDatasetWriter::~IndexedDatasetWriter() {
  if (finished_ || !bin_.is_open()) return;
  remove_if_there(prefix_ + ".bin.tmp");
  remove_if_there(prefix_ + ".idx.tmp");
}

void IndexedDatasetWriter::append(std::span<const std::int32_t> tokens) {
  while (!tokens.empty()) {
    const auto room = static_cast<std::size_t>(max_sequence_tokens_ - sequence_tokens_);
    const auto part = tokens.first(std::min(room, tokens.size()));
    write_tokens(part);
    const auto count = static_cast<std::int64_t>(part.size());
    sequence_tokens_ += count;
    document_tokens_ += count;
    tokens_ += count;
    tokens = tokens.subspan(part.size());
    if (sequence_tokens_ == max_sequence_tokens_) {
      lengths_.push_back(static_cast<std::int32_t>(sequence_tokens_));
      sequence_tokens_ = 0;
    }
  }
}

void IndexedDatasetWriter::end_document() {
  WITAN_CHECK(document_tokens_ > 0, prefix_, ": a document without tokens");
  if (sequence_tokens_ > 0) lengths_.push_back(static_cast<std::int32_t>(sequence_tokens_));
  marks_.push_back(static_cast<std::int64_t>(lengths_.size()));
  sequence_tokens_ = document_tokens_ = 0;
}

void IndexedDatasetWriter::write_tokens(std::span<const std::int32_t> tokens) {
  const auto width = static_cast<std::size_t>(bytes_per_token());
  for (const std::int32_t id : tokens) {
    WITAN_CHECK(id >= 0 && id < vocab_size_, prefix_, ".bin: token id ", id, ", expected 0 to ",
                vocab_size_ - 1);
    if (buffer_.size() + width > kBufferBytes) flush();
    const std::size_t at = buffer_.size();
    buffer_.resize(at + width);
    std::memcpy(buffer_.data() + at, &id, width);  // little endian: the low bytes come first
  }
}

void IndexedDatasetWriter::flush() {
  bin_.write(buffer_);
  buffer_.clear();
}

void IndexedDatasetWriter::write_index() const {
  const FileDescriptor index = FileDescriptor::create(prefix_ + ".idx.tmp");
  ValueWriter out(index);
  out.put_bytes(indexed_dataset::kMagic.data(), indexed_dataset::kMagic.size());
  out.put<std::uint64_t>(indexed_dataset::kVersion);
  out.put<std::uint8_t>(static_cast<std::uint8_t>(type_));
  out.put<std::uint64_t>(lengths_.size());
  out.put<std::uint64_t>(marks_.size());
  for (const std::int32_t length : lengths_) out.put(length);
  std::int64_t offset = 0;
  for (const std::int32_t length : lengths_) {
    out.put(offset);
    offset += std::int64_t{length} * bytes_per_token();
  }
  for (const std::int64_t mark : marks_) out.put(mark);
  out.flush();
  index.sync();
}

void IndexedDatasetWriter::finish() {
  WITAN_CHECK(!finished_, prefix_, ": finished twice");
  WITAN_CHECK(document_tokens_ == 0, prefix_, ": the last document was not ended");
  flush();
  bin_.sync();
  write_index();
  // Never an old index beside a new .bin: without an index there is no dataset.
  remove_durably(prefix_ + ".idx");
  rename_durably(prefix_ + ".bin.tmp", prefix_ + ".bin");
  rename_durably(prefix_ + ".idx.tmp", prefix_ + ".idx");
  finished_ = true;
}

}  // namespace witan
