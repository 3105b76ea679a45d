#include "launch/data/block_reader.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"

namespace witan {
namespace {

constexpr std::int64_t kReadBytes = std::int64_t{256} << 10;

}  // namespace

BlockReader::BlockReader(const InputFile& file, std::int64_t block_bytes, Cut cut,
                         std::optional<std::int64_t> only_block)
    : block_bytes_(block_bytes), cut_(cut) {
  WITAN_CHECK(block_bytes >= 4, "blocks of ", block_bytes, " bytes");
  const std::int64_t begin = only_block.value_or(0) * block_bytes;
  if (only_block) end_ = begin + block_bytes;
  // The byte before tells whether a line begins at `begin`.
  buffer_begin_ = std::max<std::int64_t>(begin - 1, 0);
  source_ = open_source(file, buffer_begin_);
  if (begin == 0) return;
  position_ = boundary(begin, end_);
  starts_line_ = position_ > buffer_begin_ && byte_at(position_ - 1) == '\n';
}

bool BlockReader::next(TextBlock& block) {
  fill(position_ + 1);
  if (position_ >= buffer_end() || (end_ && position_ >= *end_)) return false;
  const std::int64_t block_end = (position_ / block_bytes_ + 1) * block_bytes_;
  const std::int64_t next_position = boundary(block_end, {});

  const auto skipped = static_cast<std::size_t>(position_ - buffer_begin_);
  const auto size = static_cast<std::size_t>(next_position - position_);
  block.offset = position_;
  block.starts_line = starts_line_;
  block.bytes.assign(buffer_, skipped, size);
  buffer_.erase(0, skipped + size);
  buffer_begin_ = position_ = next_position;
  starts_line_ = block.bytes.back() == '\n';
  return true;
}

std::int64_t BlockReader::boundary(std::int64_t at, std::optional<std::int64_t> limit) {
  if (cut_ == Cut::kLongLinesToo) limit = at + block_bytes_;
  std::int64_t searched = at - 1;
  while (true) {
    const std::int64_t wanted = searched + kReadBytes;
    fill(limit ? std::min(wanted, *limit - 1) : wanted);
    const std::int64_t end = limit ? std::min(buffer_end(), *limit - 1) : buffer_end();
    if (end > searched) {
      const char* from = buffer_.data() + (searched - buffer_begin_);
      const void* found = std::memchr(from, '\n', static_cast<std::size_t>(end - searched));
      if (found != nullptr) return searched + (static_cast<const char*>(found) - from) + 1;
      searched = end;
    }
    if (limit && searched == *limit - 1)
      return cut_ == Cut::kLongLinesToo ? character_begin(at) : *limit;
    if (at_end_) return buffer_end();
  }
}

std::int64_t BlockReader::character_begin(std::int64_t at) {
  fill(at + 4);
  for (std::int64_t i = at; i < std::min(at + 4, buffer_end()); ++i)
    if ((static_cast<unsigned char>(byte_at(i)) & 0xC0) != 0x80) return i;
  return at;  // not UTF-8
}

void BlockReader::fill(std::int64_t end) {
  if (at_end_ || end <= buffer_end()) return;
  const std::int64_t missing = std::max(end - buffer_end(), std::min(kReadBytes, block_bytes_));
  const std::size_t before = buffer_.size();
  buffer_.resize(before + static_cast<std::size_t>(missing));
  const std::size_t count = source_->read(std::span(buffer_).subspan(before));
  at_end_ = count < static_cast<std::size_t>(missing);
  buffer_.resize(before + count);
}

std::int64_t line_number(const InputFile& file, std::int64_t offset) {
  const auto source = open_source(file);
  std::vector<char> bytes(static_cast<std::size_t>(kReadBytes));
  std::int64_t line = 1;
  while (offset > 0) {
    const std::size_t wanted = std::min(bytes.size(), static_cast<std::size_t>(offset));
    const std::size_t count = source->read(std::span(bytes).first(wanted));
    line += std::count(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count), '\n');
    if (count < wanted) break;
    offset -= static_cast<std::int64_t>(count);
  }
  return line;
}

}  // namespace witan
