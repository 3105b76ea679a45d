#include "launch/data/tokenizers/read_file.h"

#include "core/base/error.h"
#include "launch/data/file_descriptor.h"

namespace witan {

std::string read_tokenizer_file(const std::string& path) {
  const FileDescriptor file = FileDescriptor::open_to_read(path);
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  const std::size_t read = file.read_at(0, content);
  WITAN_CHECK(read == content.size(), path, ": ", read, " of ", content.size(), " bytes read");
  return content;
}

}  // namespace witan
