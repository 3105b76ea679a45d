#include "launch/data/block_reader.h"

#include "core/base/rng.h"
#include "tests/data/compressed_files.h"
#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using Cut = BlockReader::Cut;

struct Piece {
  std::int64_t offset;
  bool starts_line;
  std::string bytes;
  friend bool operator==(const Piece&, const Piece&) = default;
};

void collect(BlockReader reader, std::vector<Piece>& pieces) {
  TextBlock block;
  while (reader.next(block)) pieces.push_back({block.offset, block.starts_line, block.bytes});
}

class BlockReaderTest : public test::FolderTest {
 protected:
  // Reads `text` whole, block by block, and behind both decompressors, checks that all agree, and
  // returns the blocks.
  std::vector<Piece> blocks(const std::string& text, std::int64_t block_bytes, Cut cut) {
    const InputFile plain = find_input_files({write_file("plain.txt", text)})[0];
    std::vector<Piece> whole, one_by_one;
    collect(BlockReader(plain, block_bytes, cut), whole);
    for (std::int64_t b = 0; b * block_bytes < plain.bytes; ++b)
      collect(BlockReader(plain, block_bytes, cut, b), one_by_one);
    EXPECT_EQ(whole, one_by_one) << text;
    for (const std::string& path :
         {write_file("t.gz", test::gzip(text)), write_file("t.zst", test::zstd(text))}) {
      std::vector<Piece> unpacked;
      collect(BlockReader(find_input_files({path})[0], block_bytes, cut), unpacked);
      EXPECT_EQ(whole, unpacked) << path;
    }
    std::string joined;
    for (const Piece& piece : whole) {
      EXPECT_EQ(piece.offset, static_cast<std::int64_t>(joined.size()));
      EXPECT_EQ(piece.starts_line, joined.empty() || joined.back() == '\n');
      EXPECT_FALSE(piece.bytes.empty());
      joined += piece.bytes;
    }
    EXPECT_EQ(joined, text);
    return whole;
  }
};

TEST_F(BlockReaderTest, LinesStayWhole) {
  const auto pieces = blocks("ab\ncdefgh\ni\nj\nklmnopqrstuvwxyz\n12\n", 8, Cut::kLinesOnly);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[0].bytes, "ab\ncdefgh\n");
  EXPECT_EQ(pieces[1].bytes, "i\nj\nklmnopqrstuvwxyz\n");
  EXPECT_EQ(pieces[2].bytes, "12\n");
}

TEST_F(BlockReaderTest, LongLinesAreCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "\u20ac";  // three bytes each
  for (const Piece& piece : blocks(text, 16, Cut::kLongLinesToo)) {
    EXPECT_LE(piece.bytes.size(), 48U);
    EXPECT_EQ(piece.bytes.size() % 3, 0U);
  }
}

TEST_F(BlockReaderTest, LinesShorterThanABlockAreNeverCut) {
  for (int size = 0; size < 8; ++size) {
    const std::string line(static_cast<std::size_t>(size), 'x');
    const std::string text = line + "\n" + line + "\n" + line + "\n" + line;
    for (const Piece& piece : blocks(text, 8, Cut::kLongLinesToo)) EXPECT_TRUE(piece.starts_line);
  }
}

TEST_F(BlockReaderTest, CutsDependOnTheBytesAlone) {
  const Random random(5, "test");
  std::uint64_t at = 0;
  for (int trial = 0; trial < 60; ++trial) {
    std::string text;
    const std::uint64_t size = random.below(at++, 120);
    const std::uint64_t newline_every = 1 + random.below(at++, 60);
    for (std::uint64_t i = 0; i < size; ++i)
      text.push_back(random.below(at++, newline_every) == 0
                         ? '\n'
                         : static_cast<char>(random.below(at++, 256)));
    const auto block_bytes = static_cast<std::int64_t>(4 + random.below(at++, 20));
    for (const Cut cut : {Cut::kLinesOnly, Cut::kLongLinesToo}) blocks(text, block_bytes, cut);
  }
}

TEST_F(BlockReaderTest, LinesAreCounted) {
  const std::string text = "a\nbb\n\nc";
  for (const std::string& path : {write_file("t", text), write_file("t.gz", test::gzip(text))}) {
    const InputFile file = find_input_files({path})[0];
    EXPECT_EQ(line_number(file, 0), 1);
    EXPECT_EQ(line_number(file, 2), 2);
    EXPECT_EQ(line_number(file, 4), 2);
    EXPECT_EQ(line_number(file, 6), 4);
  }
}

}  // namespace
}  // namespace witan
